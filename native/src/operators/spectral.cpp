#include "spectral.h"

#include <ATen/ATen.h>

namespace pnpkit {

Tensor kernel_of(const Settings& s, const Shape& shape) {
  Tensor kernel = parameter(s, "kernel");
  if (kernel.size(-3) != 1 && kernel.size(-3) != shape[0])
    throw InputError(told(s.where(), ": a kernel is (1, h, w) or (C, h, w), given ", shape_text(kernel.sizes()),
                          " for images ", shape_text(shape), "."));
  if (kernel.size(-2) > shape[1] || kernel.size(-1) > shape[2])
    throw InputError(told(s.where(), ": the kernel ", shape_text(kernel.sizes()), " is larger than the image ",
                          shape_text(shape), "; crop it."));
  return kernel;
}

Tensor otf(const Tensor& kernel, const Shape& shape, bool half) {
  const int64_t h = kernel.size(-2), w = kernel.size(-1);
  const Tensor wide =
      at::roll(at::constant_pad_nd(kernel, {0, shape[2] - w, 0, shape[1] - h}), {-(h / 2), -(w / 2)}, {-2, -1});
  return half ? at::fft_rfft2(wide) : at::fft_fft2(wide);
}

Tensor Spectral::spectrum(const Tensor& x) const { return complex ? at::fft_fft2(x) : at::fft_rfft2(x); }

Tensor Spectral::image(const Tensor& k, const Shape& shape) const {
  if (complex) return at::fft_ifft2(k);
  return at::fft_irfft2(k, at::IntArrayRef({shape[1], shape[2]}));
}

}  // namespace pnpkit
