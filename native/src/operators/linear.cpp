// What every linear operator can do: conjugate gradients, power iteration, a first image.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <cmath>

#include "pnpkit/operators.h"

namespace pnpkit {

Tensor expand(const Tensor& value, const Tensor& like) {
  if (value.dim() == 0) return value;
  std::vector<int64_t> shape(like.dim(), 1);
  shape[0] = value.size(0);
  return value.reshape(shape);
}

Tensor overlap(const Tensor& a, const Tensor& b) {
  const Tensor sums = at::linalg_vecdot(a.flatten(1), b.flatten(1));
  return sums.is_complex() ? at::real(sums) : sums;
}

Tensor norm_of(const Tensor& a) { return overlap(a, a).sqrt(); }

void check_finite(const Tensor& t, const std::string& what) {
  const Tensor parts = t.is_complex() ? at::view_as_real(t) : t;
  if (!at::isfinite(parts).all().item<bool>()) throw InputError(told(what, " contains NaN or Inf; repair the file."));
}

std::string shape_text(at::IntArrayRef shape) {
  std::string text;
  for (int64_t n : shape) text += (text.empty() ? "" : ", ") + std::to_string(n);
  return "(" + text + ")";
}

namespace {

Tensor ratio(const Tensor& a, const Tensor& b) {
  return at::where(b == 0, at::zeros_like(a), a / at::where(b == 0, at::ones_like(b), b));
}

}  // namespace

// Hestenes & Stiefel 1952, as linalg.cg in Python: a sample that has converged is not touched afterwards.
Tensor Operator::prox(const Tensor& z, const Tensor& y, const Tensor& tau) const {
  const Tensor t = expand(tau, z);
  const Tensor b = t * adjoint(y - forward(z));
  Tensor x = at::zeros_like(b), r = b.clone(), p = r, rr = overlap(r, r);
  const Tensor target = cg_tol * cg_tol * rr;
  Tensor active = rr > target;
  for (int64_t k = 0; k < cg_max_iter && active.any().item<bool>(); ++k) {
    const Tensor q = p + t * normal(p);
    const Tensor step = at::where(active, ratio(rr, overlap(p, q)), at::zeros_like(rr));
    x = x + expand(step, x) * p;
    r = r - expand(step, r) * q;
    const Tensor now = overlap(r, r);
    const Tensor beta = at::where(active, ratio(now, rr), at::zeros_like(rr));
    p = r + expand(beta, p) * p;
    rr = at::where(active, now, rr);
    active = at::logical_and(active, rr > target);
  }
  return z + x;
}

Tensor Operator::norm(int64_t samples) const {
  auto rng = at::detail::createCPUGenerator(0);
  std::vector<int64_t> shape{samples};
  shape.insert(shape.end(), in_shape.begin(), in_shape.end());
  Tensor v = at::randn(shape, rng, complex ? at::kComplexFloat : at::kFloat).to(device());
  v = v / expand(norm_of(v), v);
  Tensor eigenvalue, residual;
  for (int k = 0; k < 500; ++k) {
    const Tensor w = normal(v);
    eigenvalue = overlap(v, w);
    residual = norm_of(w - expand(eigenvalue, w) * v);
    if ((residual <= 1e-3 * eigenvalue).all().item<bool>()) break;
    const Tensor length = norm_of(w);
    v = w * expand(ratio(at::ones_like(length), length), w);
  }
  return (eigenvalue + residual).clamp_min(0).sqrt();
}

Tensor Operator::initial(const Tensor& y) const {
  const Tensor x = adjoint(y), back = forward(x), energy = overlap(back, back);
  return expand(ratio(overlap(x, x), energy), x) * x;
}

}  // namespace pnpkit
