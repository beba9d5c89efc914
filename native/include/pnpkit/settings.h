// Parameters of one component, from JSON: typed, none unknown, errors that name the place.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "pnpkit/error.h"
#include "pnpkit/files.h"

namespace pnpkit {

// The tensor that {"file": …} or {"sha256": …} stands for.
using Tensors = std::function<Tensor(const Json& reference, const std::string& where)>;

// {"file": "mask.npy"}, relative to ``folder``.
Tensors tensors_of_files(Path folder);

class Settings {
 public:
  Settings(const Json& json, std::string where, Tensors tensors);

  const std::string& where() const { return where_; }
  bool has(const std::string& key) const;  // there, and not null
  // ``name`` is always known.
  void only(std::initializer_list<const char*> known) const;

  std::string text(const std::string& key) const;
  double number(const std::string& key, double otherwise) const;
  int64_t integer(const std::string& key) const;
  int64_t integer(const std::string& key, int64_t otherwise) const;
  bool flag(const std::string& key, bool otherwise) const;
  std::optional<double> optional_number(const std::string& key) const;
  std::vector<int64_t> integers(const std::string& key) const;
  Tensor tensor(const std::string& key) const;
  // A number, a list of numbers or a tensor.
  Tensor values(const std::string& key) const;

 private:
  const Json& at(const std::string& key) const;
  [[noreturn]] void wrong(const std::string& key, const char* expected) const;

  Json json_;
  std::string where_;
  Tensors tensors_;
};

}  // namespace pnpkit
