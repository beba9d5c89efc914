// The twin of src/pnpkit/operators/inpainting.py.
#include <ATen/ATen.h>

#include <algorithm>

#include "parts.h"

namespace pnpkit {
namespace {

class Inpainting : public Operator {
 public:
  explicit Inpainting(const Settings& s) {
    s.only({"mask", "shape", "complex"});
    mask_ = parameter(s, "mask");
    batch = batch_of(mask_);
    in_shape = out_shape = image_shape(s, mask_);
    complex = s.flag("complex", false);
    if (mask_.size(-1) != in_shape[2] || mask_.size(-2) != in_shape[1] ||
        (mask_.size(-3) != 1 && mask_.size(-3) != in_shape[0]))
      throw InputError(
          told(s.where(), ": a mask ", shape_text(mask_.sizes()), " for images ", shape_text(in_shape), "."));
  }
  Tensor forward(const Tensor& x) const override { return mask_ * x; }
  Tensor adjoint(const Tensor& y) const override { return mask_ * y; }
  Tensor prox(const Tensor& z, const Tensor& y, const Tensor& tau) const override {
    const Tensor t = expand(tau, z);
    return (z + t * mask_ * y) / (1 + t * mask_.square());
  }
  Tensor norm(int64_t) const override { return top(mask_.square()).sqrt(); }
  at::Device device() const override { return mask_.device(); }
  void to(at::Device device) override { mask_ = mask_.to(device); }

  // Seen pixels as measured; missing ones from means of seen ones over growing neighbourhoods.
  Tensor initial(const Tensor& y) const override {
    const Tensor mask = at::broadcast_to(mask_, y.sizes()), seen = mask != 0;
    const Tensor zero = at::zeros_like(y), weight = seen.to(at::kFloat);
    Tensor x = at::where(seen, y / at::where(seen, mask, at::ones_like(mask)), zero);
    const Tensor value = x;
    Tensor unknown = seen.logical_not();
    for (int64_t side = 1; side <= 2 * std::max(in_shape[1], in_shape[2]) && unknown.any().item<bool>();
         side = 2 * side + 1) {
      const Tensor known = mean(weight, side), total = mean(value, side), enough = known > 1e-6;
      x = at::where(at::logical_and(unknown, enough), total / at::where(enough, known, at::ones_like(known)), x);
      unknown = at::logical_and(unknown, enough.logical_not());
    }
    return x;
  }

 private:
  static Tensor mean(Tensor x, int64_t radius) {  // over (2·radius + 1)² pixels, zeros outside
    if (x.is_complex()) return at::complex(mean(at::real(x), radius), mean(at::imag(x), radius));
    for (int64_t axis : {-2, -1}) {
      x = x.transpose(axis, -1);
      x = at::avg_pool2d(x, {1, 2 * radius + 1}, {1, 1}, {0, radius}).transpose(axis, -1);
    }
    return x;
  }
  Tensor mask_;
};

}  // namespace

std::unique_ptr<Operator> make_inpainting(const Settings& settings) { return std::make_unique<Inpainting>(settings); }

}  // namespace pnpkit
