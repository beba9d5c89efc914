// Computed tomography, parallel and fan beam: the twin of src/pnpkit/operators/ct.py.
#pragma once

#include <memory>

#include "pnpkit/operators.h"

namespace pnpkit {

std::unique_ptr<Operator> make_ct(const Settings& settings);

}  // namespace pnpkit
