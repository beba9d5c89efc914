// The operators by name. A new one: a file of its own here, its maker in parts.h, and a line below.
#include <map>

#include "parts.h"

namespace pnpkit {
namespace {

const std::map<std::string, std::unique_ptr<Operator> (*)(const Settings&)>& twins() {
  static const std::map<std::string, std::unique_ptr<Operator> (*)(const Settings&)> all = {
      {"blur", make_blur},
      {"ct", make_ct},
      {"inpainting", make_inpainting},
      {"mri", make_mri},
      {"super_resolution", make_super_resolution},
  };
  return all;
}

}  // namespace

bool has_twin(const std::string& name) { return twins().contains(name); }

std::unique_ptr<Operator> make_operator(const Json& spec, const Tensors& tensors) {
  const std::string name = Settings(spec, "operator", tensors).text("name");
  const Settings own(spec, told("operator ", name.substr(0, 40)), tensors);
  if (own.has("precision")) throw CapabilityError(told(own.where(), ": the native backend works in float32 only."));
  const auto found = twins().find(name);
  if (found != twins().end()) return found->second(own);
  std::string names;
  for (const auto& [known, make] : twins()) names += (names.empty() ? "" : ", ") + known;
  throw CapabilityError(told(own.where(), " has no twin in C++. There are: ", names,
                             ". From Python, the network still runs natively, with Python's data steps."));
}

}  // namespace pnpkit
