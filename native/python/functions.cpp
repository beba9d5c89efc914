// What torch knows by name (torch.ops.pnpkit); gradients are made of these in Python.
#include <torch/library.h>

#include "pnpkit/training.h"

TORCH_LIBRARY(pnpkit, m) {
  m.def("convolution(Tensor image, Tensor weight, Tensor? bias) -> Tensor");
  m.def("convolution_image_gradient(Tensor gradient, Tensor weight) -> Tensor");
  m.def("convolution_weight_gradient(Tensor image, Tensor gradient, Tensor weight) -> Tensor");
}

TORCH_LIBRARY_IMPL(pnpkit, CPU, m) {
  m.impl("convolution", pnpkit::convolution);
  m.impl("convolution_image_gradient", pnpkit::convolution_image_gradient);
  m.impl("convolution_weight_gradient", pnpkit::convolution_weight_gradient);
}
