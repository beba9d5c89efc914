// Errors that a user can do something about. A message says what was given, what was expected and what to do.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace pnpkit {

// ``code`` is the exit code of pnpkit-infer, as of the Python command line.
struct Error : std::runtime_error {
  Error(int code, const std::string& message) : std::runtime_error(message), code(code) {}
  int code;
};

struct InputError : Error {  // a file, a value or an option
  explicit InputError(const std::string& message) : Error(2, message) {}
};

struct CapabilityError : Error {  // valid, but this cannot be done here
  explicit CapabilityError(const std::string& message) : Error(3, message) {}
};

struct DivergedError : Error {
  explicit DivergedError(const std::string& message) : Error(4, message) {}
};

template <class... Parts>
std::string told(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

}  // namespace pnpkit
