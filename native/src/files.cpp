#include "pnpkit/files.h"

#include <ATen/ATen.h>

#include <charconv>
#include <cstring>
#include <fstream>

#include "pnpkit/error.h"

namespace pnpkit {
namespace {

// Elements of an array of ``shape``; InputError where they do not fit into ``bytes``.
int64_t elements(const std::vector<int64_t>& shape, int64_t size, int64_t bytes, const std::string& name) {
  int64_t n = 1;
  for (int64_t d : shape) {
    if (d < 0) throw InputError(told(name, ": a side of ", d, " in its shape."));
    if (d > 0 && n > bytes / d / size)
      throw InputError(
          told(name, ": its shape asks for more than the ", bytes, " bytes that follow; it is truncated or damaged."));
    n *= d;
  }
  if (n * size > bytes)
    throw InputError(told(name, ": its shape asks for ", n * size, " bytes, ", bytes, " follow; it is truncated."));
  return n;
}

at::ScalarType kind_of(std::string_view descr, const std::string& name) {
  const std::pair<std::string_view, at::ScalarType> known[] = {
      {"|b1", at::kBool},   {"|u1", at::kByte},         {"|i1", at::kChar},          {"<i2", at::kShort},
      {"<i4", at::kInt},    {"<i8", at::kLong},         {"<f2", at::kHalf},          {"<f4", at::kFloat},
      {"<f8", at::kDouble}, {"<c8", at::kComplexFloat}, {"<c16", at::kComplexDouble}};
  for (const auto& [text, kind] : known)
    if (text == descr) return kind;
  throw InputError(told(name, ": numbers of type '", descr, "' are not read; use little-endian float32 or complex64."));
}

// The text after ``'key':`` in the header of a .npy file.
std::string_view entry(std::string_view header, std::string_view key, const std::string& name) {
  const auto at = header.find(told("'", key, "'"));
  const auto colon = at == header.npos ? header.npos : header.find(':', at);
  if (colon == header.npos) throw InputError(told(name, ": the header of the .npy file has no '", key, "'."));
  const auto text = header.find_first_not_of(' ', colon + 1);
  if (text == header.npos) throw InputError(told(name, ": the header of the .npy file is damaged."));
  return header.substr(text);
}

template <class T>
T little_endian(std::string_view bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

Tensor copied(const char* data, const std::vector<int64_t>& shape, at::ScalarType kind) {
  Tensor out = at::empty(shape, at::TensorOptions(kind));
  if (out.nbytes()) std::memcpy(out.data_ptr(), data, out.nbytes());
  return out;
}

}  // namespace

std::string read_file(const Path& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) throw InputError(told(path.string(), " is not a file."));
  const auto size = std::filesystem::file_size(path, error);
  if (error || size > static_cast<uintmax_t>(LARGEST))
    throw InputError(told(path.string(), " cannot be read, or is larger than ", LARGEST, " bytes."));
  std::ifstream file(path, std::ios::binary);
  std::string bytes(size, '\0');
  if (!file.read(bytes.data(), static_cast<std::streamsize>(size)))
    throw InputError(told(path.string(), " cannot be read."));
  return bytes;
}

Tensor read_npy(const Path& path) { return parse_npy(read_file(path), path.string()); }

Tensor parse_npy(std::string_view bytes, const std::string& name) {
  if (bytes.size() < 12 || bytes.substr(0, 6) != std::string_view("\x93NUMPY", 6))
    throw InputError(told(name, " is not a .npy file; write one with numpy.save."));
  const int version = bytes[6];
  if (version < 1 || version > 3) throw InputError(told(name, ": .npy files of format ", version, " are not read."));
  const size_t start = version == 1 ? 10 : 12;
  const size_t length =
      version == 1 ? little_endian<uint16_t>(bytes.substr(8)) : little_endian<uint32_t>(bytes.substr(8));
  if (length > bytes.size() - start) throw InputError(told(name, " is truncated: its header has ", length, " bytes."));
  const std::string_view header = bytes.substr(start, length), data = bytes.substr(start + length);

  const auto quoted = entry(header, "descr", name);
  const auto end = quoted.empty() || quoted[0] != '\'' ? quoted.npos : quoted.find('\'', 1);
  if (end == quoted.npos) throw InputError(told(name, ": structured arrays are not read."));
  const auto kind = kind_of(quoted.substr(1, end - 1), name);
  if (entry(header, "fortran_order", name).substr(0, 4) == "True")
    throw InputError(told(name, " is in Fortran order; write numpy.ascontiguousarray of it."));

  auto list = entry(header, "shape", name);
  const auto close = list.find(')');
  if (list[0] != '(' || close == list.npos) throw InputError(told(name, ": the shape in its header is damaged."));
  list = list.substr(1, close - 1);
  std::vector<int64_t> shape;
  while (true) {
    const auto digit = list.find_first_not_of(" ,");
    if (digit == list.npos) break;
    list = list.substr(digit);
    int64_t side = 0;
    const auto [rest, error] = std::from_chars(list.data(), list.data() + list.size(), side);
    if (error != std::errc()) throw InputError(told(name, ": the shape in its header is damaged."));
    shape.push_back(side);
    list = list.substr(rest - list.data());
    if (shape.size() > 8) throw InputError(told(name, ": more than 8 axes."));
  }
  const auto size = static_cast<int64_t>(c10::elementSize(kind));
  elements(shape, size, static_cast<int64_t>(data.size()), name);
  Tensor array = copied(data.data(), shape, kind);
  if (kind == at::kComplexDouble) return array.to(at::kComplexFloat);
  return kind == at::kComplexFloat ? array : array.to(at::kFloat);
}

void write_npy(const Path& path, const Tensor& array) {
  const Tensor plain = array.detach().cpu().resolve_conj().contiguous();
  const bool complex = plain.is_complex();
  if (plain.scalar_type() != at::kFloat && plain.scalar_type() != at::kComplexFloat)
    throw InputError("write_npy: float32 or complex64 only.");
  std::string shape;
  for (int64_t n : plain.sizes()) shape += std::to_string(n) + ", ";
  std::string header =
      told("{'descr': '", complex ? "<c8" : "<f4", "', 'fortran_order': False, 'shape': (", shape, "), }");
  header.append(63 - (10 + header.size()) % 64, ' ').push_back('\n');
  const auto length = static_cast<uint16_t>(header.size());
  const Path part = path.string() + ".part";
  {
    std::ofstream file(part, std::ios::binary);
    file.write("\x93NUMPY\x01\x00", 8).write(reinterpret_cast<const char*>(&length), 2) << header;
    file.write(static_cast<const char*>(plain.data_ptr()), static_cast<std::streamsize>(plain.nbytes()));
    if (!file.flush()) throw InputError(told(path.string(), " cannot be written; is there such a folder, and space?"));
  }
  std::filesystem::rename(part, path);
}

Weights read_weights(const Path& path) { return parse_weights(read_file(path), path.string()); }

Weights parse_weights(std::string_view bytes, const std::string& name) {
  if (bytes.size() < 8) throw InputError(told(name, " is not a .safetensors file."));
  const auto length = little_endian<uint64_t>(bytes);
  if (length > bytes.size() - 8) throw InputError(told(name, " is truncated, or not a .safetensors file."));
  const Json header = parse_json(bytes.substr(8, length), name);
  const std::string_view data = bytes.substr(8 + length);
  if (!header.is_object()) throw InputError(told(name, " is not a .safetensors file."));
  Weights weights;
  const Json about = header.value("__metadata__", Json::object());
  if (!about.is_object() || !about.contains("format") || !about["format"].is_string() || !about.contains("network") ||
      !about["network"].is_string())
    throw InputError(told(name, " was not written by `pnpkit train`: it does not say what network it is for."));
  weights.format = about["format"].get<std::string>();
  weights.network = parse_json(about["network"].get<std::string>(), name);
  for (const auto& [key, one] : header.items()) {
    if (key == "__metadata__") continue;
    const auto where = told(name, ": tensor '", key, "'");
    const auto numbers = [&](const char* field) {
      if (!one.is_object() || !one.contains(field) || !one[field].is_array())
        throw InputError(told(where, " has no ", field, "."));
      std::vector<int64_t> list;
      for (const auto& n : one[field]) {
        if (!n.is_number_integer() || !n.is_number_unsigned() || n.get<uint64_t>() > static_cast<uint64_t>(LARGEST))
          throw InputError(told(where, ": damaged ", field, "."));
        list.push_back(n.get<int64_t>());
      }
      return list;
    };
    const auto shape = numbers("shape"), offsets = numbers("data_offsets");
    const auto dtype = one.contains("dtype") && one["dtype"].is_string() ? one["dtype"].get<std::string>() : "";
    const auto kind = dtype == "F32"    ? at::kFloat
                      : dtype == "F16"  ? at::kHalf
                      : dtype == "BF16" ? at::kBFloat16
                                        : at::kByte;
    if (kind == at::kByte) throw InputError(told(where, " is of type '", dtype, "'; F16, BF16 and F32 are read."));
    if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > static_cast<int64_t>(data.size()))
      throw InputError(told(where, " lies outside the file; it is truncated."));
    const int64_t n = elements(shape, static_cast<int64_t>(c10::elementSize(kind)), offsets[1] - offsets[0], where);
    if (n * static_cast<int64_t>(c10::elementSize(kind)) != offsets[1] - offsets[0])
      throw InputError(told(where, ": its shape and its length disagree."));
    weights.tensors[key] = copied(data.data() + offsets[0], shape, kind).to(at::kFloat);
  }
  return weights;
}

Json read_json(const Path& path) { return parse_json(read_file(path), path.string()); }

Json parse_json(std::string_view text, const std::string& name) {
  int depth = 0;
  // nlohmann's parser keeps its own stack, but destroying a deeply nested value recurses
  const auto shallow = [&](int d, Json::parse_event_t, Json&) {
    depth = std::max(depth, d);
    return d < 64;
  };
  try {
    Json json = Json::parse(text, shallow);
    if (depth >= 64) throw InputError(told(name, ": nested deeper than 64 levels."));
    return json;
  } catch (const Json::exception& error) {
    throw InputError(told(name, " is not JSON: ", error.what()));
  }
}

}  // namespace pnpkit
