// fuzz N [SEED]: N damaged inputs for every reader and for the operators built from them. Each must be read, or be
// refused with an Error; anything else (another exception, a signal, a sanitizer's report) is a failure.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "pnpkit/solvers.h"

using namespace pnpkit;

namespace {

using Random = std::mt19937_64;

std::string npy(const std::string& descr, const std::string& shape, size_t bytes, const std::string& order = "False") {
  std::string header = told("{'descr': '", descr, "', 'fortran_order': ", order, ", 'shape': ", shape, ", }\n");
  const auto n = static_cast<uint16_t>(header.size());
  std::string file("\x93NUMPY\x01\x00", 8);
  file.append(reinterpret_cast<const char*>(&n), 2);
  return file + header + std::string(bytes, '\x3f');
}

std::string weights() {
  const std::string header =
      R"({"__metadata__":{"format":"pnpkit-unet-1","network":"{\"channels\":1,\"widths\":[2],\"blocks\":1,\"conditions\":0,\"attention\":false,\"classes\":0,\"mean\":0.0,\"std\":0.25,\"complex\":false,\"sigma_range\":[0.01,10.0]}"},)"
      R"("embed.0.weight":{"dtype":"F32","shape":[8,32],"data_offsets":[0,1024]},"embed.0.bias":{"dtype":"F32","shape":[8],"data_offsets":[0,32]},)"
      R"("embed.2.weight":{"dtype":"F32","shape":[8,8],"data_offsets":[0,256]},"embed.2.bias":{"dtype":"F16","shape":[8],"data_offsets":[0,16]},)"
      R"("head.weight":{"dtype":"F32","shape":[2,1,3,3],"data_offsets":[0,72]},"head.bias":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
      R"("tail.weight":{"dtype":"F32","shape":[1,2,3,3],"data_offsets":[0,72]},"tail.bias":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
      R"("middle.blocks.0.first.weight":{"dtype":"F32","shape":[2,2,3,3],"data_offsets":[0,144]},"middle.blocks.0.first.bias":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
      R"("middle.blocks.0.second.weight":{"dtype":"F32","shape":[2,2,3,3],"data_offsets":[0,144]},"middle.blocks.0.second.bias":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
      R"("middle.blocks.0.modulate.weight":{"dtype":"F32","shape":[4,8],"data_offsets":[0,128]},"middle.blocks.0.modulate.bias":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})";
  uint64_t n = header.size();
  std::string file(reinterpret_cast<const char*>(&n), 8);
  return file + header + std::string(1024, '\0');
}

const std::vector<std::string> CONFIGS = {
    R"({"operator":{"name":"inpainting","mask":{"file":"m"},"shape":[1,4,6]},"noise":{"name":"gaussian","sigma":0.1},"solver":{"name":"hqs","n_steps":2}})",
    R"({"operator":{"name":"blur","kernel":{"file":"k"},"shape":[1,4,6],"complex":false},"noise":{"name":"gaussian","sigma":[0.1]},"solver":{"name":"admm","n_steps":2,"lam":0.5}})",
    R"({"operator":{"name":"super_resolution","kernel":{"file":"k"},"factor":2,"shape":[1,4,6]},"noise":{"name":"gaussian","sigma":{"file":"s"}},"solver":{"name":"posterior_sampler","n_steps":2,"eta":0.5,"method":"ddim"}})",
    R"({"operator":{"name":"ct","angles":{"file":"a"},"shape":[1,4,6],"detectors":7,"pitch":1.1,"offset":null,"source_to_axis":12.0,"source_to_detector":15.0},"noise":{"name":"gaussian","sigma":0.1},"solver":{"name":"hqs"}})",
    R"({"operator":{"name":"mri","mask":{"file":"m"},"maps":{"file":"c"}},"noise":{"name":"gaussian","sigma":1e-3},"solver":{"name":"hqs","sigma_start":null}})"};

const std::vector<std::string> NUMBERS = {
    "-1", "0",  "1e308", "NaN",   "9223372036854775807", "18446744073709551616", "1.5", "null", "true",
    "[]", "{}", "\"x\"", "65536", "-9223372036854775808"};

std::string damaged(std::string bytes, Random& random) {
  const auto upto = [&](size_t n) { return n ? random() % n : 0; };
  for (size_t times = 1 + upto(4); times > 0 && !bytes.empty(); --times) {
    const size_t at = upto(bytes.size());
    switch (upto(7)) {
      case 0:
        bytes[at] = static_cast<char>(random());
        break;
      case 1:
        bytes.resize(at);
        break;
      case 2:
        bytes.insert(at, 1 + upto(8), static_cast<char>(random()));
        break;
      case 3:
        bytes.erase(at, 1 + upto(8));
        break;
      case 4:
        bytes[at] ^= static_cast<char>(1 << upto(8));
        break;
      case 5:
        bytes.insert(at, bytes.substr(upto(bytes.size()), upto(40)));
        break;
      default: {  // another value in the place of a number
        const size_t digit = bytes.find_first_of("0123456789", at);
        if (digit == std::string::npos) break;
        const size_t end = bytes.find_first_not_of("0123456789.e-", digit);
        bytes.replace(digit, end == std::string::npos ? end : end - digit, NUMBERS[upto(NUMBERS.size())]);
      }
    }
  }
  return bytes;
}

// As pnpkit-infer uses a config: whatever is valid is run.
void use_config(const std::string& text, Random& random) {
  const Json config = parse_json(text, "config");
  const Settings top(config, "config", nullptr);
  top.only({"operator", "noise", "prior", "solver", "seed"});
  const Tensors tensors = [&](const Json& reference, const std::string& where) {
    if (!reference.is_object() || !reference.contains("file") || !reference["file"].is_string())
      throw InputError(where + ": no tensor");
    const auto name = reference["file"].get<std::string>();
    if (name == "a") return at::linspace(0, 3, 5);
    if (name == "s") return at::full({1}, 0.1f);
    if (name == "m") return random() % 50 ? at::ones({1, 4, 6}) : at::full({1, 4, 6}, NAN);
    if (name == "k") return at::full({1, 3, 3}, 0.1f);
    if (name == "c") return at::ones({2, 4, 6}, at::kComplexFloat);
    return at::ones({1 + static_cast<int64_t>(random() % 3), 2});
  };
  if (!config.contains("operator") || !config.contains("noise") || !config.contains("solver"))
    throw InputError("incomplete");
  std::shared_ptr<Operator> op = make_operator(config["operator"], tensors);
  const Tensor sigma = make_sigma(config["noise"], tensors);
  const Solver solver = make_solver(config["solver"]);
  (void)solver;
  int64_t size = 1;
  for (int64_t n : op->out_shape) size *= n;
  if (size > 100000) return;
  Shape shape{1};
  shape.insert(shape.end(), op->out_shape.begin(), op->out_shape.end());
  const Problem problem(op, at::ones(shape, op->complex ? at::kComplexFloat : at::kFloat), sigma);
  problem.prox(problem.initial(), at::ones({1}));
}

void use_weights(const std::string& bytes) {
  const Denoiser denoiser(parse_weights(bytes, "weights"), Arithmetic::float32);
  denoiser(at::zeros({1, denoiser.domain.channels, 5, 7}, denoiser.domain.complex ? at::kComplexFloat : at::kFloat),
           at::full({1}, denoiser.domain.low));
}

const std::string PACKAGE =
    R"({"format":"pnpkit-package-1","network":{"file":"w","dtype":"fp32"},"prior":{"name":"unet"},)"
    R"("sha256":{"w":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}})";  // of "abc"
const std::string COMPILED =
    R"({"format":"pnpkit-package-1","network":{"compiled":[{"file":"w","multiple":8,"least":8},{"file":"w","size":[4,6]}],)"
    R"("dtype":"bf16","channels":1,"sigma_range":[0.01,1.0],"value_range":[0.0,1.0],"torch":"0.0.0","cpu":["sse"]},"prior":{"name":"drunet"},)"
    R"("sha256":{"w":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}})";

void use_package(const std::string& text, const Path& folder) {
  std::ofstream(folder / "package.json", std::ios::binary) << text;
  const Package package(folder);
  if (package.compiled()) Denoiser denoiser(package);  // refused: it is for another torch
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t n = argc > 1 ? std::atoll(argv[1]) : 1000;
  Random random(argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1);
  at::set_num_threads(1);
  const std::vector<std::string> arrays = {
      npy("<f4", "(2, 3)", 24),          npy("<c8", "(2,)", 16),         npy("<f8", "()", 8), npy("|b1", "(4, 1)", 4),
      npy("<f4", "(99999999999, 9)", 8), npy("<i8", "(1, 1)", 8, "True")};
  const std::string network = weights();
  use_weights(network);  // the undamaged ones are valid
  for (const auto& text : CONFIGS) {
    Random fixed(1);
    use_config(text, fixed);
  }
  const Path folder = std::filesystem::temp_directory_path() / told("pnpkit-fuzz-", getpid());
  std::filesystem::create_directory(folder);
  std::ofstream(folder / "w") << "abc";
  use_package(PACKAGE, folder);
  int64_t read = 0, refused = 0;
  for (int64_t i = 0; i < n; ++i) {
    std::string bytes;
    try {
      switch (i % 4) {
        case 0:
          parse_npy(bytes = damaged(arrays[random() % arrays.size()], random), "array");
          break;
        case 1:
          use_config(bytes = damaged(CONFIGS[random() % CONFIGS.size()], random), random);
          break;
        case 2:
          use_package(bytes = damaged(random() % 2 ? PACKAGE : COMPILED, random), folder);
          break;
        default:
          use_weights(bytes = damaged(network, random));
      }
      ++read;
    } catch (const Error&) {
      ++refused;
    } catch (const std::exception& e) {
      std::printf("input %lld: not an Error: %.300s\n%.2000s\n", static_cast<long long>(i), e.what(), bytes.c_str());
      return 1;
    }
  }
  std::filesystem::remove_all(folder);
  std::printf("%lld inputs: %lld read, %lld refused\n", static_cast<long long>(n), static_cast<long long>(read),
              static_cast<long long>(refused));
  return read == 0 || refused == 0;
}
