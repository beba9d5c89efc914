#include "pnpkit/package.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/headeronly/version.h>

#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

#include "pnpkit/error.h"
#include "pnpkit/operators.h"
#include "pnpkit/settings.h"

namespace pnpkit {
namespace {

constexpr const char* FORMAT = "pnpkit-package-1";

// Names of files stay in the folder.
bool plain(const std::string& name) { return !name.empty() && Path(name).filename() == Path(name) && name[0] != '.'; }

// What /proc/cpuinfo says about the processor: empty where there is none.
std::set<std::string> instructions() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("flags", 0) != 0 && line.rfind("Features", 0) != 0) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    return {std::istream_iterator<std::string>(words), {}};
  }
  return {};
}

}  // namespace

Package::Package(const Path& where) : folder(where) {
  const Path path = folder / "package.json";
  if (!std::filesystem::is_regular_file(path))
    throw InputError(told(folder.string(),
                          " is not a package: it has no package.json. Write one with `pnpkit native "
                          "export`."));
  const Json about = read_json(path);
  const auto damaged = [&](const std::string& what) {
    return InputError(told(path.string(), what, "; export it again."));
  };
  if (!about.is_object() || about.value("format", Json()) != FORMAT)
    throw damaged(told(" is not of form '", FORMAT, "'"));
  network = about.value("network", Json());
  const Json hashes = about.value("sha256", Json());
  std::vector<Json> files;
  if (network.is_object() && network.contains("file")) files.push_back(network["file"]);
  if (network.is_object() && network.contains("compiled") && network["compiled"].is_array())
    for (const Json& one : network["compiled"]) files.push_back(one.is_object() ? one.value("file", Json()) : Json());
  if (files.empty() || !hashes.is_object()) throw damaged(" names no network");
  for (const Json& name : files) {
    if (!name.is_string() || !plain(name.get<std::string>())) throw damaged(" names a file that is none");
    const std::string key = name.get<std::string>();
    if (!hashes.contains(key) || !hashes[key].is_string()) throw damaged(" has no sha256 of " + key);
    if (sha256(read_file(file(key))) != hashes[key].get<std::string>())
      throw InputError(told(file(key).string(), " is not the file that was exported: its sha256 is another one."));
  }
  arithmetic();
}

Arithmetic Package::arithmetic() const {
  const Json dtype = network.value("dtype", Json());
  if (dtype != "fp32" && dtype != "bf16")
    throw InputError(told((folder / "package.json").string(), ": network.dtype must be fp32 or bf16."));
  return dtype == "bf16" ? Arithmetic::bfloat16 : Arithmetic::float32;
}

struct Compiled::Code {
  std::optional<Shape> size;  // (H, W), one image at a time; none: any, and any number
  std::string path;
  int64_t multiple, least;
  std::unique_ptr<torch::inductor::AOTIModelPackageLoader> loader;
};

Compiled::Compiled(Compiled&&) noexcept = default;
Compiled::~Compiled() = default;

Compiled::Compiled(const Package& package) {
  const Settings about(package.network, (package.folder / "package.json").string() + ": network", nullptr);
  const std::string made = about.text("torch");
  if (made != TORCH_VERSION)
    throw CapabilityError(told(package.folder.string(), " was compiled for torch ", made.substr(0, 20), ", this is ",
                               TORCH_VERSION, "; export it again with this one."));
  const auto here = instructions();
  for (const Json& word : package.network.value("cpu", Json::array()))
    if (!word.is_string() || !here.contains(word.get<std::string>()))
      throw CapabilityError(told(package.folder.string(), " was compiled for a processor with ",
                                 word.dump().substr(0, 20), ", which this one lacks; export it again here."));
  dlopen("libtorch_cpu.so", RTLD_NOLOAD | RTLD_NOW | RTLD_GLOBAL);  // the code finds its functions in it
  for (const Json& one : package.network["compiled"]) {
    const Settings s(one, about.where(), nullptr);
    auto code = std::make_unique<Code>();
    if (s.has("size")) code->size = s.integers("size");
    code->path = package.file(s.text("file")).string();
    code->multiple = s.integer("multiple", 1), code->least = s.integer("least", 1);
    if (code->multiple < 1 || code->multiple > 4096 || code->least < 1 || code->least > 4096 ||
        (code->size && code->size->size() != 2))
      throw InputError(told(about.where(), ": damaged; export it again."));
    try {
      code->loader = std::make_unique<torch::inductor::AOTIModelPackageLoader>(code->path);
    } catch (const std::exception& error) {
      const std::string text = error.what();
      throw InputError(told(code->path, " is no AOTInductor package: ", text.substr(0, text.find('\n'))));
    }
    codes_.push_back(std::move(code));
  }
  engine_ = told("aotinductor ", package.arithmetic() == Arithmetic::bfloat16 ? "bfloat16" : "float32");
}

Tensor Compiled::operator()(const Tensor& x, const Tensor& sigma) const {
  const at::NoGradGuard guard;
  const Code* fits = nullptr;  // the one for just this size before the one for any
  for (const auto& code : codes_)
    if (code->size ? *code->size == Shape{x.size(-2), x.size(-1)} : !fits) fits = code.get();
  if (!fits || std::min(x.size(-2), x.size(-1)) < fits->least) {
    std::string sizes;
    for (const auto& code : codes_)
      sizes += (sizes.empty() ? "" : ", ") + (code->size ? shape_text(*code->size) : told(code->least, " and more"));
    throw CapabilityError(told("The network was compiled for images of ", sizes, " pixels, these are ",
                               shape_text(x.sizes().slice(2)), "; export it with --shape ", x.size(-2), "x", x.size(-1),
                               "."));
  }
  const Tensor wide = as_real(x, fits->multiple).contiguous(), level = sigma.contiguous();
  Tensor clean;
  if (fits->size && x.size(0) != 1) {
    std::vector<Tensor> parts;
    for (int64_t i = 0; i < x.size(0); ++i)
      parts.push_back(fits->loader->run({wide.narrow(0, i, 1), level.narrow(0, i, 1)}).at(0));
    clean = at::cat(parts);
  } else {
    clean = fits->loader->run({wide, level}).at(0);
  }
  return as_before(clean, x);
}

}  // namespace pnpkit
