// The noise-conditioned U-Net of src/pnpkit/priors/networks/unet.py, from its weights alone: any height and width.
//
// On a CPU with AVX-512 its convolutions are our own (src/convolutions.h); elsewhere, CUDA included, they are ATen's.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

#include "pnpkit/files.h"

namespace pnpkit {

enum class Arithmetic { float32, bfloat16 };

class UNet {
 public:
  // ``options`` as the Python constructor's; tensors are those whose names begin with ``prefix``.
  // fused: own convolutions; false leaves them to ATen.
  UNet(const Json& options, const Weights& weights, const std::string& prefix, Arithmetic arithmetic,
       bool fused = true);
  ~UNet();
  UNet(UNet&&) noexcept;

  // Heights and widths are multiples of this.
  int64_t multiple() const;
  int64_t channels() const;
  int64_t conditions() const;
  // (B, E) from the noise coordinate (B,).
  Tensor embedding(const Tensor& coordinate) const;
  // image (B, channels + conditions, H, W) and embedding (B, E) to (B, channels, H, W), all float32.
  Tensor operator()(const Tensor& image, const Tensor& embedding) const;
  void to(at::Device device);
  // "winograd float32", "winograd bfloat16" or "aten …"
  std::string engine() const;

 private:
  struct Body;
  std::unique_ptr<Body> body_;
};

// EDM's preconditioning: D(x, s) = m + c_skip·(x − m) + c_out·F(c_in·(x − m), e), Karras et al. 2022.
struct Preconditioned {
  UNet network;
  double mean, std;

  Tensor coordinate(const Tensor& level) const;
  // ``condition`` undefined, or (B, conditions, H, W).
  Tensor operator()(const Tensor& x, const Tensor& level, const Tensor& embedding, const Tensor& condition) const;
};

// (B, C, H, W) as networks take it: complex images as real and imaginary part side by side, extended by reflection at
// the right and the lower edge to multiples; and the answer cropped and put together like ``x``.
Tensor as_real(const Tensor& x, int64_t multiple);
Tensor as_before(const Tensor& clean, const Tensor& x);

}  // namespace pnpkit
