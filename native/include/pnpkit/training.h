// 3×3 convolutions with zeros around, and their gradients, by the convolutions of our own networks: for training.
//
// Images are (B, C, H, W), float32 or bfloat16 in channels-last order, channels multiples of 16; weights float32
// (out, in, 3, 3) in any order. Sums are in float32.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace pnpkit {

// Whether this processor has the instructions.
bool has_convolutions(bool bf16);

// Like the image, but for its channels.
at::Tensor convolution(const at::Tensor& image, const at::Tensor& weight, const std::optional<at::Tensor>& bias);
// The gradient of the image from that of the result.
at::Tensor convolution_image_gradient(const at::Tensor& gradient, const at::Tensor& weight);
// The gradient of the weight, like it.
at::Tensor convolution_weight_gradient(const at::Tensor& image, const at::Tensor& gradient, const at::Tensor& weight);

}  // namespace pnpkit
