// 2×2 convolutions with stride 2, and their transposes.
#include <ATen/Parallel.h>

#include "products.h"

namespace pnpkit {

Halve::Halve(const float* weight, int64_t out, int64_t in, bool bf16)
    : in_(padded(in)), out_(padded(out)), weight_(4 * in_ * out_, bf16) {
  const int64_t n = 4 * in_ * out_;
  Aligned<float> matrix(n);
  for (int64_t o = 0; o < out; ++o)
    for (int64_t i = 0; i < in; ++i)
      for (int p = 0; p < 4; ++p) matrix.data()[(p * in_ + i) * out_ + o] = weight[(o * in + i) * 4 + p];
  for (int64_t row = 0; row < n; row += n / 2) weight_.put(row, matrix.data() + row, 2 * in_, out_);
}

void Halve::run(Image image, Size fine, const Finish& f) const {
  const int64_t height = fine.height / 2, width = fine.width / 2;
  weight_.with(image, [&](auto pixels, auto weight) {
    at::parallel_for(0, fine.batch * height, 1, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) {
        const auto* upper = pixels + 2 * k * fine.width * in_;  // the rows of all samples follow one another
        float* sums = scratch(width * out_);
        product(width, upper, 2 * in_, weight, 2 * in_, sums, out_);
        product<true>(width, upper + fine.width * in_, 2 * in_, weight + 2 * in_ * out_, 2 * in_, sums, out_);
        for (int64_t x = 0; x < width; ++x)
          for (int64_t c = 0; c < out_; c += 16)
            finish(f, _mm512_load_ps(sums + x * out_ + c), k / height, out_, c, (k * width + x) * out_ + c);
      }
    });
  });
}

Double::Double(const float* weight, int64_t in, int64_t out, bool bf16)
    : in_(padded(in)), out_(padded(out)), weight_(4 * in_ * out_, bf16) {
  Aligned<float> matrix(in_ * out_);
  for (int p = 0; p < 4; ++p) {
    for (int64_t i = 0; i < in; ++i)
      for (int64_t o = 0; o < out; ++o) matrix.data()[i * out_ + o] = weight[(i * out + o) * 4 + p];
    weight_.put(p * in_ * out_, matrix.data(), in_, out_);
  }
}

void Double::run(Image image, Size coarse, const Finish& f) const {
  const int64_t width = coarse.width;
  weight_.with(image, [&](auto pixels, auto weight) {
    at::parallel_for(0, coarse.batch * coarse.height, 1, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k)
        for (int p = 0; p < 4; ++p) {
          float* sums = scratch(width * out_);
          product(width, pixels + k * width * in_, in_, weight + p * in_ * out_, in_, sums, out_);
          for (int64_t x = 0; x < width; ++x)
            for (int64_t c = 0; c < out_; c += 16)
              finish(f, _mm512_load_ps(sums + x * out_ + c), k / coarse.height, out_, c,
                     ((2 * k + p / 2) * 2 * width + 2 * x + p % 2) * out_ + c);
        }
    });
  });
}

}  // namespace pnpkit
