// Inpainting, blur, super-resolution and Cartesian MRI. Formulas and their sources are in src/pnpkit/operators/*.py.
#include "pnpkit/operators.h"

#include <ATen/ATen.h>

#include <cmath>
#include <numbers>

#include "ct.h"

namespace pnpkit {
namespace {

constexpr int64_t LARGEST_SIDE = 1 << 15, LARGEST_IMAGE = 1 << 28;

// (C, H, W) from "shape", or of the parameter itself.
Shape image_shape(const Settings& s, const Tensor& otherwise) {
  Shape shape = s.has("shape") ? s.integers("shape") : Shape(otherwise.sizes().end() - 3, otherwise.sizes().end());
  if (shape.size() != 3) throw InputError(told(s.where(), ": shape is (C, H, W), given ", shape_text(shape), "."));
  for (int64_t n : shape)
    if (n < 1 || n > LARGEST_SIDE)
      throw InputError(told(s.where(), ": sides are 1 to ", LARGEST_SIDE, ", given ", shape_text(shape), "."));
  if (shape[0] * shape[1] * shape[2] > LARGEST_IMAGE)
    throw InputError(
        told(s.where(), ": an image has at most ", LARGEST_IMAGE, " numbers, given ", shape_text(shape), "."));
  return shape;
}

// A real parameter of 3 axes, or 4 with one value per sample, that is finite and not all zero.
Tensor parameter(const Settings& s, const char* key, bool complex = false) {
  Tensor t = s.tensor(key);
  const auto what = told(s.where(), ".", key);
  if (t.dim() != 3 && t.dim() != 4)
    throw InputError(told(what, " has 3 axes, or 4 with one value per sample; given ", shape_text(t.sizes()), "."));
  if (t.is_complex() != complex)
    throw InputError(told(what, complex ? " is complex, given real numbers." : " is real, given complex numbers."));
  check_finite(t, what);
  if (t.numel() == 0 || !t.any().item<bool>())
    throw InputError(told(what, " is zero everywhere, so nothing is measured."));
  return t.contiguous();
}

Tensor power(const Tensor& d) { return at::real(d).square() + at::imag(d).square(); }
Tensor conjugate(const Tensor& t) { return t.conj().resolve_conj(); }
// The largest entry: () without a batch of its own, else (B,).
Tensor top(const Tensor& values, int64_t rank) {
  return values.dim() == rank ? values.max() : std::get<0>(values.flatten(1).max(1));
}

class Inpainting : public Operator {
 public:
  explicit Inpainting(const Settings& s) {
    s.only({"mask", "shape", "complex"});
    mask_ = parameter(s, "mask");
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
  Tensor norm(int64_t) const override { return top(mask_.square(), 3).sqrt(); }
  at::Device device() const override { return mask_.device(); }
  void to(at::Device device) override { mask_ = mask_.to(device); }
  void repeat(int64_t n) override { mask_ = repeated(mask_, 3, n); }

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

void check_kernel(const Settings& s, const Tensor& kernel, const Shape& shape) {
  if (kernel.size(-3) != 1 && kernel.size(-3) != shape[0])
    throw InputError(told(s.where(), ": a kernel is (1, h, w) or (C, h, w), given ", shape_text(kernel.sizes()),
                          " for images ", shape_text(shape), "."));
  if (kernel.size(-2) > shape[1] || kernel.size(-1) > shape[2])
    throw InputError(told(s.where(), ": the kernel ", shape_text(kernel.sizes()), " is larger than the image ",
                          shape_text(shape), "; crop it."));
}

// Transfer function of a kernel whose centre is at (h//2, w//2).
Tensor otf(const Tensor& kernel, const Shape& shape, bool half) {
  const int64_t h = kernel.size(-2), w = kernel.size(-1);
  const Tensor wide =
      at::roll(at::constant_pad_nd(kernel, {0, shape[2] - w, 0, shape[1] - h}), {-(h / 2), -(w / 2)}, {-2, -1});
  return half ? at::fft_rfft2(wide) : at::fft_fft2(wide);
}

// Images to spectra and back: half the plane for real ones.
class Spectral : public Operator {
 public:
  at::Device device() const override { return otf_.device(); }

 protected:
  Tensor spectrum(const Tensor& x) const { return complex ? at::fft_fft2(x) : at::fft_rfft2(x); }
  Tensor image(const Tensor& k, const Shape& shape) const {
    if (complex) return at::fft_ifft2(k);
    return at::fft_irfft2(k, at::IntArrayRef({shape[1], shape[2]}));
  }
  Tensor otf_, conj_;
};

class Blur : public Spectral {
 public:
  explicit Blur(const Settings& s) {
    s.only({"kernel", "shape", "complex"});
    const Tensor kernel = parameter(s, "kernel");
    if (!s.has("shape")) throw InputError(told(s.where(), ": 'shape' is missing."));
    in_shape = out_shape = image_shape(s, kernel);
    complex = s.flag("complex", false);
    check_kernel(s, kernel, in_shape);
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
  Tensor norm(int64_t) const override { return top(power_, 3).sqrt(); }
  void to(at::Device device) override { otf_ = otf_.to(device), derive(); }
  void repeat(int64_t n) override { otf_ = repeated(otf_, 3, n), derive(); }

 private:
  void derive() { conj_ = conjugate(otf_), power_ = power(otf_); }
  Tensor power_;
};

class SuperResolution : public Spectral {
 public:
  explicit SuperResolution(const Settings& s) {
    s.only({"kernel", "factor", "shape", "complex"});
    const Tensor kernel = parameter(s, "kernel");
    if (!s.has("shape")) throw InputError(told(s.where(), ": 'shape' is missing."));
    in_shape = image_shape(s, kernel);
    factor_ = s.integer("factor");
    if (factor_ < 1 || in_shape[1] % factor_ || in_shape[2] % factor_)
      throw InputError(told(s.where(), ": factor must be ≥ 1 and divide H and W, given ", factor_, " for ",
                            shape_text(in_shape), "."));
    out_shape = {in_shape[0], in_shape[1] / factor_, in_shape[2] / factor_};
    complex = s.flag("complex", false);
    check_kernel(s, kernel, in_shape);
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
  Tensor norm(int64_t) const override { return top(cogram_, 3).sqrt(); }
  void to(at::Device device) override { otf_ = otf_.to(device), cogram_ = cogram_.to(device), derive(); }
  void repeat(int64_t n) override { otf_ = repeated(otf_, 3, n), cogram_ = repeated(cogram_, 3, n), derive(); }

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
  Tensor norm(int64_t batch) const override {
    if (!maps_.defined()) return top(mask_.square(), 3).sqrt();
    if (axes_.empty()) return top(power_, 3).sqrt();
    const Tensor power = maps_.abs().square().sum(-3, true);
    const Tensor bound = mask_.square().flatten(-3).amax(-1) * power.flatten(-3).amax(-1);
    Tensor v = maps_.conj().sum(-3, true).reshape({-1, in_shape[0], in_shape[1], in_shape[2]});
    v = v.expand({batch, -1, -1, -1});
    for (int k = 0; k < 5; ++k) {
      const Tensor w = normal(v);
      if ((overlap(v, w) >= 0.98 * bound * overlap(v, v)).all().item<bool>()) return bound.sqrt();
      v = w;
    }
    return Operator::norm(batch);
  }
  at::Device device() const override { return mask_.device(); }
  void to(at::Device device) override {
    mask_ = mask_.to(device);
    if (maps_.defined()) maps_ = maps_.to(device);
    derive();
  }
  void repeat(int64_t n) override {
    mask_ = repeated(mask_, 3, n);
    if (maps_.defined()) maps_ = repeated(maps_, 3, n);
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

bool has_twin(const std::string& name) {
  return name == "inpainting" || name == "blur" || name == "super_resolution" || name == "mri" || name == "ct";
}

std::unique_ptr<Operator> make_operator(const Json& spec, const Tensors& tensors) {
  Settings s(spec, "operator", tensors);
  const std::string name = s.text("name");
  if (s.has("precision")) throw CapabilityError(told("operator ", name, ": the native backend works in float32 only."));
  Settings own(spec, told("operator ", name), tensors);
  if (name == "inpainting") return std::make_unique<Inpainting>(own);
  if (name == "blur") return std::make_unique<Blur>(own);
  if (name == "super_resolution") return std::make_unique<SuperResolution>(own);
  if (name == "mri") return std::make_unique<MRI>(own);
  if (name == "ct") return make_ct(own);
  throw CapabilityError(
      told("operator '", name.substr(0, 40),
           "' has no twin in C++. There are: blur, ct, inpainting, mri, super_resolution. From Python, "
           "the network still runs natively, with Python's data steps."));
}

}  // namespace pnpkit
