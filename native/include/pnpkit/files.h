// Arrays, weights and settings from files. Nothing that a file says about itself is believed before it is checked.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace pnpkit {

using at::Tensor;
using Json = nlohmann::json;
using Path = std::filesystem::path;

constexpr int64_t LARGEST = int64_t{1} << 34;  // bytes of one file

// A .npy file of format 1 to 3, C order, of booleans, integers, floating-point or complex numbers.
// float64 becomes float32, complex128 complex64, integers and booleans float32, as in the Python package.
Tensor read_npy(const Path& path);
Tensor parse_npy(std::string_view bytes, const std::string& name);
void write_npy(const Path& path, const Tensor& array);

struct Weights {
  std::string format;                     // "pnpkit-unfolding-1" or "pnpkit-unet-1"
  Json network;                           // what rebuilds the network
  std::map<std::string, Tensor> tensors;  // float32
};

// A .safetensors file written by `pnpkit train`.
Weights read_weights(const Path& path);
Weights parse_weights(std::string_view bytes, const std::string& name);

Json read_json(const Path& path);
Json parse_json(std::string_view text, const std::string& name);

// The whole file; InputError when it is missing, no file, or larger than LARGEST.
std::string read_file(const Path& path);

}  // namespace pnpkit
