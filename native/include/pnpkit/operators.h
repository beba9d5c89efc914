// Linear forward operators, each the twin of the Python operator of the same name and parameters.
//
// Images are (B, C, H, W), float32 or complex64; a parameter with one leading axis more than usual holds one value per
// sample. ``tau`` and noise levels are (B,).
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "pnpkit/settings.h"

namespace pnpkit {

using Shape = std::vector<int64_t>;

class Operator {
 public:
  virtual ~Operator() = default;

  Shape in_shape, out_shape;  // without batch
  bool complex = false;       // images and measurements
  int64_t batch = 0;          // how many samples its parameters are for; 0 for any

  virtual Tensor forward(const Tensor& x) const = 0;
  virtual Tensor adjoint(const Tensor& y) const = 0;
  virtual Tensor normal(const Tensor& x) const { return adjoint(forward(x)); }
  // argmin_x ½‖x − z‖² + tau/2·‖A x − y‖²: by conjugate gradients where there is no closed form.
  virtual Tensor prox(const Tensor& z, const Tensor& y, const Tensor& tau) const;
  // ‖A‖, () or (B,): by power iteration where it is not known.
  virtual Tensor norm(int64_t samples) const;
  // A first image from the data: the best multiple of Aᴴ y.
  virtual Tensor initial(const Tensor& y) const;
  virtual at::Device device() const = 0;
  // Moved to a device, in place.
  virtual void to(at::Device device) = 0;

  double cg_tol = 1e-5;
  int64_t cg_max_iter = 100;
};

// The operator that ``spec`` names; CapabilityError for one without a twin here.
std::unique_ptr<Operator> make_operator(const Json& spec, const Tensors& tensors);
bool has_twin(const std::string& name);

// --- shared by operators ---

// (B,) or () to broadcast against (B, …).
Tensor expand(const Tensor& value, const Tensor& like);
// Re⟨a, b⟩ and ‖a‖ per sample, (B,).
Tensor overlap(const Tensor& a, const Tensor& b);
Tensor norm_of(const Tensor& a);
void check_finite(const Tensor& t, const std::string& what);
std::string shape_text(at::IntArrayRef shape);

}  // namespace pnpkit
