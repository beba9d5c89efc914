// The twin of src/pnpkit/operators/super_resolution.py.
#include <ATen/ATen.h>

#include "spectral.h"

namespace pnpkit {
namespace {

class SuperResolution : public Spectral {
 public:
  explicit SuperResolution(const Settings& s) {
    s.only({"kernel", "factor", "shape", "complex"});
    in_shape = required_shape(s);
    factor_ = s.integer("factor");
    if (factor_ < 1 || in_shape[1] % factor_ || in_shape[2] % factor_)
      throw InputError(told(s.where(), ": factor must be ≥ 1 and divide H and W, given ", factor_, " for ",
                            shape_text(in_shape), "."));
    out_shape = {in_shape[0], in_shape[1] / factor_, in_shape[2] / factor_};
    complex = s.flag("complex", false);
    const Tensor kernel = kernel_of(s, in_shape);
    batch = batch_of(kernel);
    const Tensor full = otf(kernel, in_shape, false);
    cogram_ = fold(power(full));
    otf_ = complex ? full : full.slice(-1, 0, in_shape[2] / 2 + 1).contiguous();
    derive();
  }
  Tensor forward(const Tensor& x) const override { return image(down(spectrum(x)), out_shape); }
  Tensor adjoint(const Tensor& y) const override { return image(up(spectrum(y)), in_shape); }
  Tensor normal(const Tensor& x) const override { return image(up(down(spectrum(x))), in_shape); }
  // Sherman–Morrison–Woodbury: A Aᴴ is circulant on the coarse grid (Zhao et al. 2016).
  Tensor prox(const Tensor& z, const Tensor& y, const Tensor& tau) const override {
    Tensor residual = spectrum(y) - down(spectrum(z));
    const Tensor t = expand(tau, y);
    residual = residual * (t / (1 + t * cogram_.slice(-1, 0, residual.size(-1))));
    return z + image(up(residual), in_shape);
  }
  Tensor norm(int64_t) const override { return top(cogram_).sqrt(); }
  void to(at::Device device) override { otf_ = otf_.to(device), cogram_ = cogram_.to(device), derive(); }

 private:
  void derive() { conj_ = conjugate(otf_).unflatten(-2, at::IntArrayRef({factor_, out_shape[1]})); }

  // Mean over the aliases of decimation, of whole spectra.
  Tensor fold(const Tensor& k) const {
    auto shape = k.sizes().slice(0, k.dim() - 2).vec();
    shape.insert(shape.end(), {factor_, in_shape[1] / factor_, factor_, in_shape[2] / factor_});
    return k.reshape(shape).mean(at::IntArrayRef{-4, -2});
  }
  // Entries at the opposite frequencies, of columns without the zero frequency.
  static Tensor reflected(const Tensor& half) { return conjugate(half.flip({-2, -1}).roll(1, -2)); }

  Tensor down(const Tensor& fine) const {
    const Tensor blurred = fine * otf_;
    if (complex) return fold(blurred);
    const Tensor rows = blurred.unflatten(-2, at::IntArrayRef({factor_, out_shape[1]})).sum(-3);
    const int64_t coarse = out_shape[2], half = coarse / 2;
    Tensor total = at::zeros_like(rows.slice(-1, 0, half + 1));
    for (int64_t k = 0; k < (factor_ + 1) / 2; ++k) total += rows.slice(-1, k * coarse, k * coarse + half + 1);
    for (int64_t k = 1; k <= factor_ / 2; ++k) total += reflected(rows.slice(-1, k * coarse - half, k * coarse + 1));
    return total / static_cast<double>(factor_ * factor_);
  }
  Tensor up(const Tensor& coarse) const {
    Tensor row = coarse;
    if (!complex) row = at::cat({coarse, reflected(coarse.slice(-1, 1, (out_shape[2] + 1) / 2))}, -1);
    std::vector<int64_t> times(row.dim(), 1);
    times.back() = factor_;
    row = row.repeat(times);
    if (!complex) row = row.slice(-1, 0, in_shape[2] / 2 + 1);
    return (row.unsqueeze(-3) * conj_).flatten(-3, -2);
  }

  int64_t factor_ = 1;
  Tensor cogram_;
};

}  // namespace

std::unique_ptr<Operator> make_super_resolution(const Settings& settings) {
  return std::make_unique<SuperResolution>(settings);
}

}  // namespace pnpkit
