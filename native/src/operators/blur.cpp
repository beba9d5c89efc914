// The twin of src/pnpkit/operators/blur.py.
#include <ATen/ATen.h>

#include "spectral.h"

namespace pnpkit {
namespace {

class Blur : public Spectral {
 public:
  explicit Blur(const Settings& s) {
    s.only({"kernel", "shape", "complex"});
    in_shape = out_shape = required_shape(s);
    complex = s.flag("complex", false);
    const Tensor kernel = kernel_of(s, in_shape);
    batch = batch_of(kernel);
    otf_ = otf(kernel, in_shape, !complex);
    derive();
  }
  Tensor forward(const Tensor& x) const override { return image(spectrum(x) * otf_, in_shape); }
  Tensor adjoint(const Tensor& y) const override { return image(spectrum(y) * conj_, in_shape); }
  Tensor normal(const Tensor& x) const override { return image(spectrum(x) * power_, in_shape); }
  Tensor prox(const Tensor& z, const Tensor& y, const Tensor& tau) const override {
    const Tensor t = expand(tau, z);
    return image((spectrum(z) + spectrum(y) * (t * conj_)) / (1 + t * power_), in_shape);
  }
  Tensor norm(int64_t) const override { return top(power_).sqrt(); }
  void to(at::Device device) override { otf_ = otf_.to(device), derive(); }

 private:
  void derive() { conj_ = conjugate(otf_), power_ = power(otf_); }
  Tensor power_;
};

}  // namespace

std::unique_ptr<Operator> make_blur(const Settings& settings) { return std::make_unique<Blur>(settings); }

}  // namespace pnpkit
