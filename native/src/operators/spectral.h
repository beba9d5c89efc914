// What operators of circular convolution share: images to spectra and back, half the plane for real ones.
#pragma once

#include "parts.h"

namespace pnpkit {

// A kernel (1 or C, h, w), or one of these per sample, that fits into images (C, H, W).
Tensor kernel_of(const Settings& s, const Shape& shape);
// Transfer function of a kernel whose centre is at (h//2, w//2).
Tensor otf(const Tensor& kernel, const Shape& shape, bool half);

class Spectral : public Operator {
 public:
  at::Device device() const override { return otf_.device(); }

 protected:
  Tensor spectrum(const Tensor& x) const;
  Tensor image(const Tensor& k, const Shape& shape) const;

  Tensor otf_, conj_;
};

}  // namespace pnpkit
