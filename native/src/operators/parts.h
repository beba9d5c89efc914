// Shared by the operators: parameters read and checked, and small things on tensors.
#pragma once

#include "pnpkit/operators.h"

namespace pnpkit {

// One a twin: see twins.cpp.
std::unique_ptr<Operator> make_inpainting(const Settings& settings);
std::unique_ptr<Operator> make_blur(const Settings& settings);
std::unique_ptr<Operator> make_super_resolution(const Settings& settings);
std::unique_ptr<Operator> make_mri(const Settings& settings);
std::unique_ptr<Operator> make_ct(const Settings& settings);

// (C, H, W) from "shape".
Shape required_shape(const Settings& s);
// The same, or that of the parameter itself.
Shape image_shape(const Settings& s, const Tensor& otherwise);
// A parameter of 3 axes, or 4 with one value per sample, that is finite and not all zero.
Tensor parameter(const Settings& s, const char* key, bool complex = false);
// How many samples a parameter with values of ``rank`` axes is for; 0 for any.
int64_t batch_of(const Tensor& parameter, int64_t rank = 3);

Tensor power(const Tensor& d);  // |d|²
Tensor conjugate(const Tensor& t);
// The largest entry: () without a batch of its own, else (B,).
Tensor top(const Tensor& values);

}  // namespace pnpkit
