// pnpkit-infer: weights + config + measurement -> image, without Python.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <dlfcn.h>
#include <sys/resource.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <map>

#include "pnpkit/solvers.h"

namespace {

using namespace pnpkit;
using Clock = std::chrono::steady_clock;

constexpr const char* HELP = R"(usage: pnpkit-infer --config CONFIG.json --input Y.npy --out X.npy [options]

Reconstructs an image from a measurement. CONFIG holds what `pnpkit solve` takes, as JSON:
  {"operator": {"name": "blur", "kernel": {"file": "kernel.npy"}, "shape": [1, 256, 256]},
   "noise": {"name": "gaussian", "sigma": 0.02},
   "prior": {"package": "."}, or {"weights": "unfold_photos.safetensors"},
   "solver": {"name": "posterior_sampler", "n_steps": 1}, "seed": 0}
Files in it are relative to it. Solvers: posterior_sampler (weights of Diff-Unfolding), hqs and admm (of a denoiser).
A package is a folder written by `pnpkit native export`.

  --config FILE     operator, noise, prior, solver, seed
  --input PATH      a .npy measurement, (*out_shape) or (N, *out_shape), or a folder of such files
  --out PATH        the .npy image to write; a folder, when the input is one
  --prior PATH      weights or a package, in place of the config's prior
  --steps N         in place of the solver's n_steps
  --seed N          in place of the config's seed
  --samples N       draws of every measurement: the output is (N, …), or (images, N, …)
  --batch N         measurements at once, which bounds the memory (4)
  --dtype TYPE      fp32 or bf16 arithmetic of the network (the package's; fp32 for weights)
  --engine NAME     fused or aten convolutions (fused where the CPU has AVX-512)
  --device NAME     cpu or cuda (cpu)
  --threads N       (as many as cores)
  --benchmark N     run N times more and print the median seconds
  --quiet           no progress on stderr

exit codes: 0 done, 2 bad input, 3 valid but not possible here, 4 diverged
)";

struct Options {
  std::map<std::string, std::string> given;
  bool quiet = false;

  bool has(const std::string& key) const { return given.contains(key); }
  std::string text(const std::string& key, const std::string& otherwise) const {
    return has(key) ? given.at(key) : otherwise;
  }
  std::string required(const std::string& key) const {
    if (!has(key)) throw InputError(told("--", key, " is missing; see pnpkit-infer --help."));
    return given.at(key);
  }
  int64_t number(const std::string& key, int64_t otherwise, int64_t least) const {
    if (!has(key)) return otherwise;
    const std::string& value = given.at(key);
    int64_t n = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), n);
    if (error != std::errc() || end != value.data() + value.size() || n < least)
      throw InputError(told("--", key, " must be an integer ≥ ", least, ", given '", value.substr(0, 40), "'."));
    return n;
  }
};

Options parse(int argc, char** argv) {
  constexpr const char* known[] = {"config", "input", "out",    "prior",  "steps",   "seed",     "samples",
                                   "batch",  "dtype", "engine", "device", "threads", "benchmark"};
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--help" || word == "-h") {
      std::fputs(HELP, stdout);
      std::exit(0);
    }
    if (word == "--quiet") {
      options.quiet = true;
      continue;
    }
    if (word.rfind("--", 0) != 0 || std::find(std::begin(known), std::end(known), word.substr(2)) == std::end(known))
      throw InputError(told("unknown option '", word.substr(0, 40), "'; see pnpkit-infer --help."));
    if (i + 1 >= argc) throw InputError(told(word, " needs a value."));
    options.given[word.substr(2)] = argv[++i];
  }
  return options;
}

template <class T>
T chosen(const std::string& option, const std::string& value,
         std::initializer_list<std::pair<const char*, T>> choices) {
  std::string list;
  for (const auto& [name, meaning] : choices) {
    if (value == name) return meaning;
    list += (list.empty() ? "" : ", ") + std::string(name);
  }
  throw InputError(told("--", option, " '", value.substr(0, 40), "': expected one of ", list, "."));
}

double seconds(Clock::time_point since) { return std::chrono::duration<double>(Clock::now() - since).count(); }

double peak_mib() {
  rusage use{};
  getrusage(RUSAGE_SELF, &use);
  return static_cast<double>(use.ru_maxrss) / 1024;
}

struct Job {
  std::shared_ptr<Operator> op;
  Tensor sigma;
  Prior prior;
  Solver solver;
  int64_t seed, samples, batch;
  bool quiet;

  // (n, *out_shape) to (n, *in_shape), or (n, samples, *in_shape).
  Tensor reconstruct(const Tensor& y) const {
    std::vector<Tensor> parts;
    const int64_t at_once = std::max<int64_t>(1, batch / samples);
    for (int64_t first = 0; first < y.size(0); first += at_once) {
      const int64_t n = std::min(at_once, y.size(0) - first);
      const Problem problem(op, y.narrow(0, first, n).to(op->device()).repeat_interleave(samples, 0), sigma);
      const auto show = [&](int64_t done, int64_t of) {
        if (!quiet)
          std::fprintf(stderr, "\r%lld/%lld  step %lld/%lld", static_cast<long long>(first + n),
                       static_cast<long long>(y.size(0)), static_cast<long long>(done), static_cast<long long>(of));
      };
      Tensor x = solve(problem, prior, solver, static_cast<uint64_t>(seed), show).cpu();
      parts.push_back(samples > 1 ? x.unflatten(0, at::IntArrayRef({n, samples})) : x);
    }
    if (!quiet) std::fputc('\n', stderr);
    return at::cat(parts);
  }

  Tensor run(const Path& input) const {
    const Tensor y = read_npy(input);
    const auto rank = static_cast<int64_t>(op->out_shape.size());
    if (y.dim() != rank && y.dim() != rank + 1)
      throw InputError(told(input.string(), " has ", y.dim(), " axes, expected ", rank, ", or ", rank + 1,
                            " for several measurements."));
    if (y.numel() == 0) throw InputError(told(input.string(), " is empty."));
    return y.dim() == rank ? reconstruct(y.unsqueeze(0))[0] : reconstruct(y);
  }
};

void run(const Options& options) {
  const auto began = Clock::now();
  at::set_num_threads(static_cast<int>(options.number("threads", at::get_num_threads(), 1)));
  const Path config_path = options.required("config"), input = options.required("input"), out = options.required("out");
  Json config = read_json(config_path);
  const Settings top(config, config_path.string(), nullptr);
  top.only({"operator", "noise", "prior", "solver", "seed"});
  for (const char* key : {"operator", "noise", "solver"})
    if (!top.has(key)) throw InputError(told(config_path.string(), ": '", key, "' is missing."));
  if (options.has("steps")) config["solver"]["n_steps"] = options.number("steps", 1, 1);

  const auto device = chosen<at::Device>("device", options.text("device", "cpu"),
                                         {{"cpu", at::kCPU}, {"cuda", at::Device(at::kCUDA, 0)}});
  if (device.is_cuda()) {
    dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL);  // registers CUDA with torch_cpu, where it is installed
    if (!at::hasCUDA()) throw CapabilityError("--device cuda: no CUDA here, or a torch without it.");
  }
  Path prior;
  if (options.has("prior")) {
    prior = options.required("prior");
  } else if (top.has("prior")) {
    const Settings told_prior(config["prior"], "prior", nullptr);
    told_prior.only({"weights", "package", "arithmetic", "compiled", "backend"});
    prior = config_path.parent_path() / told_prior.text(told_prior.has("package") ? "package" : "weights");
  } else {
    throw InputError("no prior: give --prior, or prior.package or prior.weights in the config.");
  }
  std::optional<Arithmetic> arithmetic;
  if (options.has("dtype"))
    arithmetic = chosen<Arithmetic>("dtype", options.required("dtype"),
                                    {{"fp32", Arithmetic::float32}, {"bf16", Arithmetic::bfloat16}});
  const bool fused = chosen<bool>("engine", options.text("engine", "fused"), {{"fused", true}, {"aten", false}});
  const Tensors tensors = tensors_of_files(config_path.parent_path());
  std::shared_ptr<Operator> op = make_operator(config["operator"], tensors);
  const Tensor sigma = make_sigma(config["noise"], tensors);
  if (op->batch > 1 || sigma.numel() > 1)
    throw CapabilityError(
        "pnpkit-infer has one operator and one sigma for all measurements; here they are per sample.");
  op->to(device);
  const Job job{op,
                sigma,
                read_prior(prior, arithmetic, device, fused),
                make_solver(config["solver"]),
                options.number("seed", top.integer("seed", 0), 0),
                options.number("samples", 1, 1),
                options.number("batch", 4, 1),
                options.quiet};
  if (job.samples > 1 && !std::holds_alternative<PosteriorSampler>(job.solver))
    throw InputError("--samples: only posterior_sampler draws samples.");

  const Path place = out.has_parent_path() ? out.parent_path() : Path(".");
  if (!std::filesystem::is_directory(place))
    throw InputError(told("The folder ", place.string(), " does not exist; make it first."));
  std::vector<Path> files{input};
  if (std::filesystem::is_directory(input)) {
    files.clear();
    for (const auto& entry : std::filesystem::directory_iterator(input))
      if (entry.path().extension() == ".npy") files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    if (files.empty()) throw InputError(told(input.string(), " holds no .npy file."));
    if (!std::filesystem::is_directory(out))
      throw InputError(told("--out ", out.string(), " must be a folder that exists, as the input is one."));
  } else if (out.extension() != ".npy")
    throw InputError(told("--out ", out.string(), ": the image is written as .npy."));

  for (const Path& file : files)
    write_npy(files.size() > 1 || std::filesystem::is_directory(input) ? out / file.filename() : out, job.run(file));
  const double first = seconds(began);
  if (const int64_t repeats = options.number("benchmark", 0, 0)) {
    std::vector<double> times;
    for (int64_t k = 0; k < repeats; ++k) {
      const auto start = Clock::now();
      for (const Path& file : files) job.run(file);
      times.push_back(seconds(start));
    }
    std::sort(times.begin(), times.end());
    std::printf("{\"first_s\": %.4f, \"median_s\": %.4f, \"runs\": %zu, \"peak_mib\": %.1f}\n", first,
                times[times.size() / 2], times.size(), peak_mib());
  } else {
    std::fprintf(stderr, "%zu file(s) in %.2f s, at most %.0f MiB\n", files.size(), first, peak_mib());
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(parse(argc, argv));
    return 0;
  } catch (const Error& error) {
    std::fprintf(stderr, "pnpkit-infer: %s\n", error.what());
    return error.code;
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "pnpkit-infer: out of memory; lower --batch.\n");
    return 3;
  } catch (const std::exception& error) {  // of ATen
    const std::string text = error.what();
    std::fprintf(stderr, "pnpkit-infer: %s\n", text.substr(0, text.find('\n')).c_str());
    return 2;
  }
}
