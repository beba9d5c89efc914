// Operator + Gaussian noise + data.
#pragma once

#include <memory>

#include "pnpkit/operators.h"

namespace pnpkit {

class Problem {
 public:
  // y (B, *out_shape); sigma () or (B,): standard deviation of each real component, in units of y.
  Problem(std::shared_ptr<Operator> op, Tensor y, Tensor sigma);

  // argmin_x ½‖x − z‖² + tau·nll(x), tau (B,).
  Tensor prox(const Tensor& z, const Tensor& tau) const;
  Tensor grad(const Tensor& x) const;
  Tensor initial() const { return op->initial(y); }
  int64_t batch() const { return y.size(0); }
  Shape image_shape() const;

  std::shared_ptr<Operator> op;
  Tensor y;
  Tensor weight;       // 1/sigma², () or (B,)
  Tensor lipschitz;    // of grad, (B,)
  Tensor noise_level;  // of the noise per pixel of x, in its units, (B,)
};

// {"name": "gaussian", "sigma": …} with a number, one per sample, or a tensor of these.
Tensor make_sigma(const Json& noise, const Tensors& tensors);

}  // namespace pnpkit
