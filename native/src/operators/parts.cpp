#include "parts.h"

#include <ATen/ATen.h>

namespace pnpkit {
namespace {

constexpr int64_t LARGEST_SIDE = 1 << 15, LARGEST_IMAGE = 1 << 28;

Shape checked(const Settings& s, Shape shape) {
  if (shape.size() != 3) throw InputError(told(s.where(), ": shape is (C, H, W), given ", shape_text(shape), "."));
  for (int64_t n : shape)
    if (n < 1 || n > LARGEST_SIDE)
      throw InputError(told(s.where(), ": sides are 1 to ", LARGEST_SIDE, ", given ", shape_text(shape), "."));
  if (shape[0] * shape[1] * shape[2] > LARGEST_IMAGE)
    throw InputError(
        told(s.where(), ": an image has at most ", LARGEST_IMAGE, " numbers, given ", shape_text(shape), "."));
  return shape;
}

}  // namespace

Shape required_shape(const Settings& s) { return checked(s, s.integers("shape")); }

Shape image_shape(const Settings& s, const Tensor& otherwise) {
  return s.has("shape") ? required_shape(s) : checked(s, Shape(otherwise.sizes().end() - 3, otherwise.sizes().end()));
}

Tensor parameter(const Settings& s, const char* key, bool complex) {
  Tensor t = s.tensor(key);
  const auto what = told(s.where(), ".", key);
  if (t.dim() != 3 && t.dim() != 4)
    throw InputError(told(what, " has 3 axes, or 4 with one value per sample; given ", shape_text(t.sizes()), "."));
  if (t.is_complex() != complex)
    throw InputError(told(what, complex ? " is complex, given real numbers." : " is real, given complex numbers."));
  check_finite(t, what);
  if (t.numel() == 0 || !t.any().item<bool>())
    throw InputError(told(what, " is zero everywhere, so nothing is measured."));
  return t.contiguous();
}

Tensor power(const Tensor& d) { return at::real(d).square() + at::imag(d).square(); }
Tensor conjugate(const Tensor& t) { return t.conj().resolve_conj(); }
Tensor top(const Tensor& values) { return values.dim() == 3 ? values.max() : std::get<0>(values.flatten(1).max(1)); }

int64_t batch_of(const Tensor& parameter, int64_t rank) { return parameter.dim() > rank ? parameter.size(0) : 0; }

}  // namespace pnpkit
