// The twin of src/pnpkit/operators/ct.py: parallel and fan beam, on the CPU.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "parts.h"

namespace pnpkit {
namespace {

constexpr int64_t CHUNKS = 16;  // of rays in the adjoint, each with an image of its own: any number of threads, one sum
constexpr double PI = std::numbers::pi;

// A ray runs along its main axis; at index k there it is at b + m·k on the other one (Joseph, IEEE TMI 1, 1982).
struct Ray {
  double b, m;
  bool columns;  // whether the main axis is the image's width
};

// Indices of a ray on its main axis where it is inside the image, −1 < b + m·k < n, and its length a step.
struct Span {
  int64_t first, last, n;
  double scale;

  Span(const Ray& r, int64_t height, int64_t width) {
    const int64_t length = r.columns ? width : height;
    n = r.columns ? height : width;
    scale = std::sqrt(1 + r.m * r.m);
    if (std::abs(r.m) < 1e-12) {
      first = 0;
      last = -1 < r.b && r.b < static_cast<double>(n) ? length : 0;
      return;
    }
    double low = (-1 - r.b) / r.m, high = (static_cast<double>(n) - r.b) / r.m;
    if (r.m < 0) std::swap(low, high);
    const auto inside = [&](double k) { return std::clamp<double>(k, 0, static_cast<double>(length)); };
    first = static_cast<int64_t>(inside(std::floor(low) + 1));
    last = std::max(first, static_cast<int64_t>(inside(std::ceil(high))));
  }
};

class CT : public Operator {
 public:
  explicit CT(const Settings& s) {
    s.only({"angles", "shape", "detectors", "pitch", "pixel", "offset", "source_to_axis", "source_to_detector"});
    in_shape = required_shape(s);
    const Tensor angles = s.tensor("angles"), offset = s.has("offset") ? s.tensor("offset") : at::zeros({1});
    angles_ = list(s, "angles", angles), offset_ = list(s, "offset", offset);
    batch = std::max(batch_of(angles, 1), batch_of(offset, 1));
    if (offset_.size(1) != 1) throw InputError(told(s.where(), ".offset is one number, or one per sample."));
    if (angles_.size(0) > 1 && offset_.size(0) > 1 && angles_.size(0) != offset_.size(0))
      throw InputError(
          told(s.where(), ": angles for ", angles_.size(0), " samples, offsets for ", offset_.size(0), "."));
    const int64_t detectors = s.integer("detectors");
    pitch_ = s.number("pitch", 1), pixel_ = s.number("pixel", 1);
    to_axis_ = s.optional_number("source_to_axis"), to_detector_ = s.optional_number("source_to_detector");
    if (detectors < 1 || detectors > (1 << 16) || angles_.size(1) > (1 << 16) || !(pitch_ > 0) || !(pixel_ > 0))
      throw InputError(told(s.where(), ": detectors ≥ 1, pitch and pixel > 0."));
    if (to_axis_.has_value() != to_detector_.has_value())
      throw InputError(
          told(s.where(), ": give both source_to_axis and source_to_detector for a fan beam, or neither."));
    const double radius = 0.5 * pixel_ * std::hypot(static_cast<double>(in_shape[1]), static_cast<double>(in_shape[2]));
    if (to_axis_ && (*to_detector_ < *to_axis_ || *to_axis_ <= radius))
      throw InputError(told(s.where(), ": the source must be outside the image (source_to_axis > ", radius,
                            ") and the detector behind the axis."));
    out_shape = {in_shape[0], angles_.size(1), detectors};
    derive();
  }

  Tensor forward(const Tensor& x) const override {
    const int64_t height = in_shape[1], width = in_shape[2], rays = out_shape[1] * out_shape[2];
    const Tensor image = x.contiguous();
    Tensor y = at::empty({x.size(0), in_shape[0], out_shape[1], out_shape[2]}, x.options());
    const float* from = image.const_data_ptr<float>();
    float* to = y.mutable_data_ptr<float>();
    at::parallel_for(0, x.size(0) * in_shape[0] * rays, 256, [&](int64_t begin, int64_t end) {
      for (int64_t at = begin; at < end; ++at) {
        const int64_t i = at / rays;
        const Ray& ray = of(i)[at % rays];
        const Span span(ray, height, width);
        const float* one = from + i * height * width;
        const int64_t across = ray.columns ? width : 1, along = ray.columns ? 1 : width;
        double total = 0;
        for (int64_t k = span.first; k < span.last; ++k) {
          const double place = ray.b + ray.m * static_cast<double>(k);
          const auto j = static_cast<int64_t>(std::floor(place));
          const double f = place - static_cast<double>(j);
          const float* p = one + k * along + j * across;
          if (j >= 0) total += (1 - f) * p[0];
          if (j + 1 < span.n) total += f * p[across];
        }
        to[at] = static_cast<float>(pixel_ * (total * span.scale));
      }
    });
    return y;
  }

  Tensor adjoint(const Tensor& y) const override {
    const int64_t height = in_shape[1], width = in_shape[2], rays = out_shape[1] * out_shape[2];
    const int64_t images = y.size(0) * in_shape[0];
    const Tensor values = y.contiguous();
    Tensor parts = at::zeros({CHUNKS, y.size(0), in_shape[0], height, width}, y.options());
    const float* from = values.const_data_ptr<float>();
    float* to = parts.mutable_data_ptr<float>();
    at::parallel_for(0, CHUNKS, 1, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c)
        for (int64_t i = 0; i < images; ++i)
          for (int64_t r = c * rays / CHUNKS; r < (c + 1) * rays / CHUNKS; ++r) {
            const Ray& ray = of(i)[r];
            const Span span(ray, height, width);
            float* one = to + (c * images + i) * height * width;
            const int64_t across = ray.columns ? width : 1, along = ray.columns ? 1 : width;
            const double value = from[i * rays + r] * span.scale;
            for (int64_t k = span.first; k < span.last; ++k) {
              const double place = ray.b + ray.m * static_cast<double>(k);
              const auto j = static_cast<int64_t>(std::floor(place));
              const double f = place - static_cast<double>(j);
              float* p = one + k * along + j * across;
              if (j >= 0) p[0] += static_cast<float>((1 - f) * value);
              if (j + 1 < span.n) p[across] += static_cast<float>(f * value);
            }
          }
    });
    return pixel_ * parts.sum(0);
  }

  // Filtered back-projection with the ramp (Kak & Slaney 1988, §3.3, §3.4.2; CT.fbp in Python).
  Tensor initial(const Tensor& y) const override {
    Tensor weighted = y;
    double pitch = pitch_;
    if (to_axis_) {
      pitch = pitch_ * *to_axis_ / *to_detector_;
      const Tensor place = (at::arange(out_shape[2]) - static_cast<double>(out_shape[2] - 1) / 2) * pitch;
      weighted = y * (*to_axis_ / at::sqrt(*to_axis_ * *to_axis_ + place.square())).to(at::kFloat);
    }
    int64_t n = 1;
    while (n < 2 * out_shape[2]) n *= 2;
    Tensor h = at::zeros({n}, at::kDouble);
    for (int64_t k = 1; k < n; k += 2) {
      const auto away = static_cast<double>(k <= n / 2 ? k : k - n);
      h[k] = -1 / (PI * away * PI * away);
    }
    h[0] = 0.25;
    const Tensor response = (at::real(at::fft_rfft(h)) / pitch).to(at::kFloat);
    const Tensor filtered = at::fft_irfft(at::fft_rfft(weighted, n) * response, n).slice(-1, 0, out_shape[2]);
    return adjoint((spacing() * (pitch / (pixel_ * pixel_))).to(at::kFloat).reshape({-1, 1, 1, 1}) * filtered);
  }

  at::Device device() const override { return at::kCPU; }
  void to(at::Device device) override {
    if (!device.is_cpu()) throw CapabilityError("operator ct works on the CPU only.");
  }

 private:
  // (1 or B, n) float64 from (n,) or (B, n).
  static Tensor list(const Settings& s, const char* key, const Tensor& t) {
    if (t.dim() < 1 || t.dim() > 2 || t.numel() == 0 || t.is_complex())
      throw InputError(
          told(s.where(), ".", key, " is (n,), or (B, n) for one set per sample; given ", shape_text(t.sizes()), "."));
    check_finite(t, told(s.where(), ".", key));
    return (t.dim() == 1 ? t.unsqueeze(0) : t).to(at::kDouble).contiguous();
  }

  const std::vector<Ray>& of(int64_t image) const { return sets_.size() == 1 ? sets_[0] : sets_[image / in_shape[0]]; }

  void derive() {
    const int64_t sets = std::max(angles_.size(0), offset_.size(0));
    sets_.assign(sets, {});
    const double p = pixel_, middle_x = static_cast<double>(in_shape[2] - 1) / 2,
                 middle_y = static_cast<double>(in_shape[1] - 1) / 2;
    for (int64_t i = 0; i < sets; ++i) {
      const double* angles = angles_.const_data_ptr<double>() + (angles_.size(0) > 1 ? i * angles_.size(1) : 0);
      const double offset = offset_.const_data_ptr<double>()[offset_.size(0) > 1 ? i : 0];
      for (int64_t v = 0; v < angles_.size(1); ++v)
        for (int64_t d = 0; d < out_shape[2]; ++d) {
          const double c = std::cos(angles[v]), s = std::sin(angles[v]);
          const double place = (static_cast<double>(d) - static_cast<double>(out_shape[2] - 1) / 2) * pitch_ + offset;
          double x = place * c, y = place * s, along = s, across = c;
          if (to_axis_) {
            const double behind = *to_detector_ - *to_axis_;
            x = *to_axis_ * s, y = -*to_axis_ * c;
            along = -behind * s + place * c - x, across = -(behind * c + place * s - y);
          }
          const double column = x / p + middle_x, row = -y / p + middle_y;
          const bool columns = std::abs(along) >= std::abs(across);
          const double slope = columns ? across / along : along / across;
          sets_[i].push_back({columns ? row - column * slope : column - row * slope, slope, columns});
        }
    }
  }

  // Radians of a half turn that each view stands for, (1 or B,).
  Tensor spacing() const {
    const int64_t views = angles_.size(1);
    if (views == 1) return at::full({angles_.size(0)}, PI, at::kDouble);
    Tensor around = std::get<0>(at::remainder(angles_, 2 * PI).sort(-1));
    around = at::cat({around, around.slice(-1, 0, 1) + 2 * PI}, -1);
    const Tensor step = (2 * PI - around.diff(1, -1).amax(-1)) / static_cast<double>(views - 1);
    return step / (step * (static_cast<double>(views) / PI)).clamp_min(1);
  }

  Tensor angles_, offset_;
  double pitch_, pixel_;
  std::optional<double> to_axis_, to_detector_;
  std::vector<std::vector<Ray>> sets_;
};

}  // namespace

std::unique_ptr<Operator> make_ct(const Settings& settings) { return std::make_unique<CT>(settings); }

}  // namespace pnpkit
