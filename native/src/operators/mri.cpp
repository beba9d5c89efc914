// The twin of src/pnpkit/operators/mri.py.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "parts.h"

namespace pnpkit {
namespace {

// exp(2πi·k·c/n), exact at ±1.
Tensor unit(const Tensor& turns, int64_t n) {
  const Tensor angle = at::remainder(turns, n).to(at::kDouble) * (2 * std::numbers::pi / n);
  const Tensor value = at::polar(at::ones_like(angle), angle);
  return at::where(at::remainder(2 * turns, n) == 0, at::real(value).round().to(at::kComplexDouble), value);
}

class MRI : public Operator {
 public:
  explicit MRI(const Settings& s) {
    s.only({"mask", "maps"});
    mask_ = parameter(s, "mask");
    const auto what = s.where();
    if (mask_.size(-3) != 1)
      throw InputError(told(what, ": a mask is (1, H, W), or one per sample; given ", shape_text(mask_.sizes()), "."));
    if ((mask_ < 0).any().item<bool>()) throw InputError(told(what, ": a mask has values ≥ 0, given negative ones."));
    if (!mask_.flatten(-3).any(-1).all().item<bool>())
      throw InputError(told(what, ": the mask of some sample is zero everywhere."));
    in_shape = image_shape(s, mask_);
    out_shape = in_shape;
    complex = true;
    if (s.has("maps")) {
      maps_ = parameter(s, "maps", true);
      if (maps_.size(-1) != in_shape[2] || maps_.size(-2) != in_shape[1] ||
          (maps_.dim() == 4 && mask_.dim() == 4 && maps_.size(0) != mask_.size(0)))
        throw InputError(
            told(what, ": maps ", shape_text(maps_.sizes()), " for a mask ", shape_text(mask_.sizes()), "."));
      out_shape[0] = maps_.size(-3);
    }
    batch = std::max(batch_of(mask_), maps_.defined() ? batch_of(maps_) : 0);
    derive();
  }
  Tensor forward(const Tensor& x) const override {
    const Tensor coils = maps_.defined() ? maps_ * (image_ * x) : image_ * x;
    return at::fft_fft2(coils).mul_(weight_);
  }
  Tensor adjoint(const Tensor& y) const override {
    Tensor coils = at::fft_ifft2(conj_weight_ * y, c10::nullopt, {-2, -1}, "forward");
    if (maps_.defined()) coils = coils.mul_(conj_maps_).sum(-3, true);
    return coils.mul_(conj_image_);
  }
  // The centring cancels, and so does the transform along an axis in which the mask is constant; the axis that is left
  // comes last, contiguous in memory.
  Tensor normal(const Tensor& x) const override {
    if (!maps_.defined()) return at::fft_ifft2(at::fft_fft2(x) * squares_);
    const Tensor turned = rows_ ? x.mT().contiguous() : x;
    Tensor k = at::fft_fftn(normal_maps_ * turned, c10::nullopt, axes_).mul_(normal_weight_);
    Tensor coils = at::fft_ifftn(k, c10::nullopt, axes_, "forward").mul_(conj_normal_maps_).sum(-3, true);
    return rows_ ? coils.mT().contiguous() : coils;
  }
  Tensor prox(const Tensor& z, const Tensor& y, const Tensor& tau) const override {
    const Tensor t = expand(tau, z);
    if (!maps_.defined()) {
      Tensor k = at::fft_fft2(image_ * z, c10::nullopt, {-2, -1}, "forward") + t * (conj_weight_ * y);
      k = k / (1 + t * mask_.square());
      return at::fft_ifft2(k, c10::nullopt, {-2, -1}, "forward").mul_(conj_image_);
    }
    if (axes_.empty()) return (z + t * adjoint(y)) / (1 + t * power_);
    return Operator::prox(z, y, tau);
  }
  // max mask · max √Σ|maps|², where a smooth image comes within 1 % of this bound; else by power iteration.
  Tensor norm(int64_t samples) const override {
    if (!maps_.defined()) return top(mask_.square()).sqrt();
    if (axes_.empty()) return top(power_).sqrt();
    const Tensor power = maps_.abs().square().sum(-3, true);
    const Tensor bound = mask_.square().flatten(-3).amax(-1) * power.flatten(-3).amax(-1);
    Tensor v = maps_.conj().sum(-3, true).reshape({-1, in_shape[0], in_shape[1], in_shape[2]});
    v = v.expand({samples, -1, -1, -1});
    for (int k = 0; k < 5; ++k) {
      const Tensor w = normal(v);
      if ((overlap(v, w) >= 0.98 * bound * overlap(v, v)).all().item<bool>()) return bound.sqrt();
      v = w;
    }
    return Operator::norm(samples);
  }
  at::Device device() const override { return mask_.device(); }
  void to(at::Device device) override {
    mask_ = mask_.to(device);
    if (maps_.defined()) maps_ = maps_.to(device);
    derive();
  }

 private:
  // Phases of centred transforms without shifts (fourier.centring), scaled masks, and what the normal operator needs.
  void derive() {
    const int64_t h = in_shape[1], w = in_shape[2];
    Tensor q = at::ones({}, at::kComplexDouble), p = q;
    for (auto [n, shape] : {std::pair{h, Shape{h, 1}}, std::pair{w, Shape{1, w}}}) {
      const Tensor k = at::arange(n, at::kLong);
      const int64_t c = n / 2;
      q = q * unit(c * k, n).reshape(shape);
      p = p * unit(c * (k - c), n).reshape(shape);
    }
    const auto here = mask_.device();
    image_ = q.to(at::kComplexFloat).to(here);
    weight_ = mask_ * (p / std::sqrt(static_cast<double>(h * w))).to(at::kComplexFloat).to(here);
    conj_image_ = conjugate(image_), conj_weight_ = conjugate(weight_);
    squares_ = at::fft_ifftshift(mask_.square(), at::IntArrayRef{-2, -1});
    if (!maps_.defined()) return;
    conj_maps_ = conjugate(maps_);
    rows_ = constant(squares_, -1);
    const bool columns = constant(squares_, -2);
    axes_ = rows_ && columns ? Shape{} : rows_ || columns ? Shape{-1} : Shape{-2, -1};
    if (axes_.empty()) {
      power_ = squares_.narrow(-1, 0, 1).narrow(-2, 0, 1) * maps_.abs().square().sum(-3, true);
      axes_ = {};
      rows_ = false;
    }
    normal_weight_ = rows_ ? squares_.mT().contiguous() : squares_;
    normal_maps_ = rows_ ? maps_.mT().contiguous() : maps_;
    conj_normal_maps_ = conjugate(normal_maps_);
    double n = 1;
    for (int64_t axis : axes_) n *= static_cast<double>(normal_weight_.size(axis));
    normal_weight_ = (normal_weight_ / n).to(at::kComplexFloat);
  }
  static bool constant(const Tensor& t, int64_t axis) { return (t == t.narrow(axis, 0, 1)).all().item<bool>(); }

  Tensor mask_, maps_, conj_maps_, image_, conj_image_, weight_, conj_weight_, squares_, power_;
  Tensor normal_weight_, normal_maps_, conj_normal_maps_;
  Shape axes_;
  bool rows_ = false;
};

}  // namespace

std::unique_ptr<Operator> make_mri(const Settings& settings) { return std::make_unique<MRI>(settings); }

}  // namespace pnpkit
