#include "pnpkit/training.h"

#include <ATen/ATen.h>

#include "convolutions.h"
#include "pnpkit/error.h"
#include "pnpkit/settings.h"

namespace pnpkit {
namespace {

using at::Tensor;

void check_weight(const Tensor& weight) {
  if (weight.dim() != 4 || weight.size(2) != 3 || weight.size(3) != 3 || weight.scalar_type() != at::kFloat ||
      weight.size(0) % 16 || weight.size(1) % 16 || weight.numel() == 0)
    throw InputError(told("The weight is ", weight.toString(), " (", weight.sizes(),
                          "), expected float32 (out, in, 3, 3) with channels that are multiples of 16."));
}

Image checked(const Tensor& image, int64_t channels) {
  const bool half = image.scalar_type() == at::kBFloat16;
  if (image.dim() != 4 || image.size(1) != channels || (!half && image.scalar_type() != at::kFloat) ||
      !image.is_contiguous(at::MemoryFormat::ChannelsLast))
    throw InputError(told("The image is ", image.toString(), " (", image.sizes(), "), expected (B, ", channels,
                          ", H, W), float32 or bfloat16, channels last."));
  void* const data = image.data_ptr();
  return half ? Image{nullptr, static_cast<uint16_t*>(data)} : Image{static_cast<float*>(data), nullptr};
}

Size size_of(const Tensor& image) { return {image.size(0), image.size(2), image.size(3)}; }

Tensor like(const Tensor& image, int64_t channels) {
  return at::empty({image.size(0), channels, image.size(2), image.size(3)}, image.options(),
                   at::MemoryFormat::ChannelsLast);
}

Tensor convolved(const Tensor& image, const Kernels<const float>& kernels, const float* bias) {
  Tensor out = like(image, kernels.columns);
  Finish finish;
  finish.shift = bias, finish.active = checked(out, kernels.columns), finish.silu = false;
  if (out.numel()) convolve(checked(image, kernels.k), size_of(image), kernels, finish);
  return out;
}

}  // namespace

bool has_convolutions(bool bf16) { return bf16 ? has_avx512_bf16() : has_avx512(); }

Tensor convolution(const Tensor& image, const Tensor& weight, const std::optional<Tensor>& bias) {
  check_weight(weight);
  const Tensor shift = bias ? bias->contiguous() : Tensor();
  if (bias && (shift.scalar_type() != at::kFloat || shift.numel() != weight.size(0)))
    throw InputError(told("The bias is (", shift.sizes(), "), expected float32 (", weight.size(0), ")."));
  const Kernels<const float> kernels{weight.const_data_ptr<float>(),
                                     weight.size(1),
                                     weight.size(0),
                                     weight.stride(1),
                                     weight.stride(0),
                                     weight.stride(2),
                                     weight.stride(3)};
  return convolved(image, kernels, bias ? shift.const_data_ptr<float>() : nullptr);
}

Tensor convolution_image_gradient(const Tensor& gradient, const Tensor& weight) {
  check_weight(weight);
  const int64_t down = weight.stride(2), across = weight.stride(3);  // kernels are turned by half a turn
  const Kernels<const float> kernels{weight.const_data_ptr<float>() + 2 * (down + across),
                                     weight.size(0),
                                     weight.size(1),
                                     weight.stride(0),
                                     weight.stride(1),
                                     -down,
                                     -across};
  return convolved(gradient, kernels, nullptr);
}

Tensor convolution_weight_gradient(const Tensor& image, const Tensor& gradient, const Tensor& weight) {
  check_weight(weight);
  Tensor out = at::empty_like(weight);
  const Image x = checked(image, weight.size(1)), g = checked(gradient, weight.size(0));
  if (image.scalar_type() != gradient.scalar_type() || size_of(image) != size_of(gradient))
    throw InputError(told("The image is ", image.toString(), " (", image.sizes(), "), the gradient ",
                          gradient.toString(), " (", gradient.sizes(), ")."));
  if (!image.numel()) return out.zero_();
  weight_gradient(x, g, size_of(image),
                  {out.mutable_data_ptr<float>(), out.size(1), out.size(0), out.stride(1), out.stride(0), out.stride(2),
                   out.stride(3)});
  return out;
}

}  // namespace pnpkit
