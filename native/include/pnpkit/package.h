// What `pnpkit native export` writes: a folder with a network's files, and package.json, which describes and hashes
// them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pnpkit/unet.h"

namespace pnpkit {

struct Package {
  // Reads package.json; InputError where it is damaged, or the file of a network is missing or another one.
  explicit Package(const Path& folder);

  Path file(const std::string& name) const { return folder / name; }
  // Whether the network is machine code; else its file holds weights.
  bool compiled() const { return network.contains("compiled"); }
  // The arithmetic that it was exported for.
  Arithmetic arithmetic() const;

  Path folder;
  Json network;
};

// A network of any architecture as machine code, made by AOTInductor for one torch and one kind of processor: the whole
// denoiser D(x, sigma), of real images.
class Compiled {
 public:
  // CapabilityError where it was made for another torch or for instructions that this processor lacks.
  explicit Compiled(const Package& package);
  ~Compiled();
  Compiled(Compiled&&) noexcept;

  // x (B, C, H, W) float32, sigma (B,). CapabilityError for a size that nothing was compiled for.
  Tensor operator()(const Tensor& x, const Tensor& sigma) const;
  const std::string& engine() const { return engine_; }

 private:
  struct Code;
  std::vector<std::unique_ptr<Code>> codes_;
  std::string engine_;
};

// Lower-case hexadecimal digits (FIPS 180-4).
std::string sha256(std::string_view bytes);

}  // namespace pnpkit
