#include "pnpkit/problem.h"

#include <ATen/ATen.h>

#include <cmath>

namespace pnpkit {

Problem::Problem(std::shared_ptr<Operator> op_, Tensor y_, Tensor sigma) : op(std::move(op_)), y(std::move(y_)) {
  const auto kind = op->complex ? at::kComplexFloat : at::kFloat;
  bool fits = y.dim() == static_cast<int64_t>(op->out_shape.size()) + 1 && y.size(0) > 0;
  for (size_t i = 0; fits && i < op->out_shape.size(); ++i)
    fits = y.size(static_cast<int64_t>(i) + 1) == op->out_shape[i];
  if (!fits)
    throw InputError(told("The measurement is ", shape_text(y.sizes()), ", the operator gives (B, ",
                          shape_text(op->out_shape).substr(1), "."));
  if (y.scalar_type() != kind) throw InputError(told("The measurement is ", y.scalar_type(), ", expected ", kind, "."));
  if (op->batch != 0 && op->batch != y.size(0))
    throw InputError(told("The measurement has ", y.size(0), " samples but the operator's parameters are for ",
                          op->batch, "; give one value per sample or one for all."));
  check_finite(y, "The measurement");
  if (sigma.dim() == 1 && sigma.size(0) == 1) sigma = sigma[0];
  if (sigma.dim() > 1 || (sigma.dim() == 1 && sigma.size(0) != y.size(0)))
    throw CapabilityError(told("The native backend takes a sigma for all or one per sample (", y.size(0), "); given ",
                               shape_text(sigma.sizes()), "."));
  weight = sigma.to(y.device()).pow(-2);
  const Tensor norm = op->norm(y.size(0));
  lipschitz = (norm.square() * weight).expand({y.size(0)}).contiguous();
  double measured = 1, pixels = 1;
  for (int64_t n : op->out_shape) measured *= static_cast<double>(n);
  for (int64_t n : op->in_shape) pixels *= static_cast<double>(n);
  noise_level = lipschitz.rsqrt() * std::sqrt(std::min(1.0, measured / pixels));
}

Tensor Problem::prox(const Tensor& z, const Tensor& tau) const { return op->prox(z, y, tau * weight); }

Tensor Problem::grad(const Tensor& x) const { return expand(weight, x) * op->adjoint(op->forward(x) - y); }

Shape Problem::image_shape() const {
  Shape shape{y.size(0)};
  shape.insert(shape.end(), op->in_shape.begin(), op->in_shape.end());
  return shape;
}

Tensor make_sigma(const Json& noise, const Tensors& tensors) {
  const Settings s(noise, "noise", tensors);
  if (s.text("name") != "gaussian")
    throw CapabilityError(
        told("noise '", s.text("name").substr(0, 40), "': the native backend has Gaussian noise only."));
  s.only({"sigma"});
  const Tensor sigma = s.values("sigma");
  if (sigma.is_complex() || sigma.numel() == 0 || !at::logical_and(at::isfinite(sigma), sigma > 0).all().item<bool>())
    throw InputError("noise.sigma must be real, finite and > 0 everywhere.");
  return sigma;
}

}  // namespace pnpkit
