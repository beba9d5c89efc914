#include "pnpkit/settings.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace pnpkit {
namespace {

bool is_float(const Json& value) {
  return value.is_number() && std::abs(value.get<double>()) <= std::numeric_limits<float>::max();
}

}  // namespace

Tensors tensors_of_files(Path folder) {
  return [folder = std::move(folder)](const Json& reference, const std::string& where) {
    if (reference.contains("make"))
      throw CapabilityError(
          told(where, ": {\"make\": …} needs Python; save the array as .npy and give {\"file\": …}."));
    if (!reference.is_object() || reference.size() != 1 || !reference.contains("file") ||
        !reference["file"].is_string())
      throw InputError(told(where, ": a tensor is {\"file\": \"….npy\"}, given ", reference.dump().substr(0, 80), "."));
    return read_npy(folder / reference["file"].get<std::string>());
  };
}

Settings::Settings(const Json& json, std::string where, Tensors tensors)
    : json_(json), where_(std::move(where)), tensors_(std::move(tensors)) {
  if (!json_.is_object())
    throw InputError(told(where_, ": expected a mapping, given ", json_.dump().substr(0, 80), "."));
}

bool Settings::has(const std::string& key) const { return json_.contains(key) && !json_[key].is_null(); }

void Settings::only(std::initializer_list<const char*> known) const {
  for (const auto& item : json_.items())
    if (item.key() != "name" && std::none_of(known.begin(), known.end(), [&](auto k) { return item.key() == k; })) {
      std::string list;
      for (auto k : known) list += (list.empty() ? "" : ", ") + std::string(k);
      throw InputError(told(where_, ": unknown parameter '", item.key(), "'. Known: ", list, "."));
    }
}

const Json& Settings::at(const std::string& key) const {
  if (!has(key)) throw InputError(told(where_, ": '", key, "' is missing."));
  return json_[key];
}

void Settings::wrong(const std::string& key, const char* expected) const {
  throw InputError(told(where_, ": '", key, "' must be ", expected, ", given ", json_[key].dump().substr(0, 80), "."));
}

std::string Settings::text(const std::string& key) const {
  if (!at(key).is_string()) wrong(key, "a string");
  return at(key).get<std::string>();
}

double Settings::number(const std::string& key, double otherwise) const {
  return optional_number(key).value_or(otherwise);
}

std::optional<double> Settings::optional_number(const std::string& key) const {
  if (!has(key)) return std::nullopt;
  if (!is_float(at(key))) wrong(key, "a finite number of float32's range");
  return at(key).get<double>();
}

int64_t Settings::integer(const std::string& key) const {
  if (!at(key).is_number_integer()) wrong(key, "an integer");
  if (at(key).is_number_unsigned() && at(key).get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
    wrong(key, "a 64-bit integer");
  return at(key).get<int64_t>();
}

int64_t Settings::integer(const std::string& key, int64_t otherwise) const {
  return has(key) ? integer(key) : otherwise;
}

bool Settings::flag(const std::string& key, bool otherwise) const {
  if (!has(key)) return otherwise;
  if (!at(key).is_boolean()) wrong(key, "true or false");
  return at(key).get<bool>();
}

std::vector<int64_t> Settings::integers(const std::string& key) const {
  const Json& list = at(key);
  std::vector<int64_t> values;
  if (!list.is_array()) wrong(key, "a list of integers");
  for (const auto& item : list) {
    if (!item.is_number_integer()) wrong(key, "a list of integers");
    values.push_back(item.get<int64_t>());
  }
  return values;
}

Tensor Settings::tensor(const std::string& key) const { return tensors_(at(key), told(where_, ".", key)); }

Tensor Settings::values(const std::string& key) const {
  const Json& value = at(key);
  if (value.is_number()) return at::full({}, number(key, 0), at::kFloat);
  if (!value.is_array()) return tensor(key);
  std::vector<float> list;
  for (const auto& item : value) {
    if (!is_float(item)) wrong(key, "finite numbers of float32's range");
    list.push_back(item.get<float>());
  }
  return at::tensor(list);
}

}  // namespace pnpkit
