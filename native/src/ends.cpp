// The first and the last convolution: 3×3 from few channels and to few.
#include <ATen/Parallel.h>

#include <algorithm>

#include "vectors.h"

namespace pnpkit {

Head::Head(const float* weight, int64_t out, int64_t in) : in_(in), out_(padded(out)), weight_(9 * in * out_) {
  for (int64_t o = 0; o < out; ++o)
    for (int64_t i = 0; i < in; ++i)
      for (int p = 0; p < 9; ++p) weight_.data()[(i * 9 + p) * out_ + o] = weight[(o * in + i) * 9 + p];
}

void Head::run(const float* planes, Size s, const Finish& f) const {
  at::parallel_for(0, s.batch * s.height, 4, [&](int64_t begin, int64_t end) {
    std::vector<float> rows(in_ * 3 * (s.width + 2), 0.0f);  // with a border of zeros
    for (int64_t k = begin; k < end; ++k) {
      const int64_t b = k / s.height, y = k % s.height;
      for (int64_t i = 0; i < in_; ++i)
        for (int64_t dy = 0; dy < 3; ++dy) {
          float* row = rows.data() + (i * 3 + dy) * (s.width + 2) + 1;
          const int64_t from = y + dy - 1;
          if (from < 0 || from >= s.height)
            std::fill_n(row, s.width, 0.0f);
          else
            std::copy_n(planes + ((b * in_ + i) * s.height + from) * s.width, s.width, row);
        }
      for (int64_t c = 0; c < out_; c += 16)
        for (int64_t x = 0; x < s.width; x += 8) {
          const int64_t n = std::min<int64_t>(8, s.width - x);
          V sums[8];
          for (auto& v : sums) v = _mm512_setzero_ps();
          for (int64_t t = 0; t < 9 * in_; ++t) {
            const V w = _mm512_load_ps(weight_.data() + t * out_ + c);
            const float* row = rows.data() + t / 3 * (s.width + 2) + x + t % 3;
            for (int64_t j = 0; j < n; ++j) sums[j] = _mm512_fmadd_ps(w, _mm512_set1_ps(row[j]), sums[j]);
          }
          for (int64_t j = 0; j < n; ++j) finish(f, sums[j], b, out_, c, (k * s.width + x + j) * out_ + c);
        }
    }
  });
}

Tail::Tail(const float* weight, const float* bias, int64_t out, int64_t in)
    : in_(padded(in)), out_(out), weight_(9 * in_ * out), bias_(bias, bias + out) {
  for (int64_t o = 0; o < out; ++o)
    for (int64_t i = 0; i < in; ++i)
      for (int p = 0; p < 9; ++p) weight_.data()[(o * 9 + p) * in_ + i] = weight[(o * in + i) * 9 + p];
}

void Tail::run(Image image, Size s, float* planes) const {
  if (image.half)
    run_on(image.half, s, planes);
  else
    run_on(image.exact, s, planes);
}

template <class T>
void Tail::run_on(const T* image, Size s, float* planes) const {
  at::parallel_for(0, s.batch * s.height, 4, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const int64_t b = k / s.height, y = k % s.height;
      for (int64_t x = 0; x < s.width; ++x)
        for (int64_t o = 0; o < out_; ++o) {
          V sums = _mm512_setzero_ps(), others = _mm512_setzero_ps();
          for (int64_t p = 0; p < 9; ++p) {
            const int64_t from_y = y + p / 3 - 1, from_x = x + p % 3 - 1;
            if (from_y < 0 || from_y >= s.height || from_x < 0 || from_x >= s.width) continue;
            const T* pixel = image + ((b * s.height + from_y) * s.width + from_x) * in_;
            const float* w = weight_.data() + (o * 9 + p) * in_;
            int64_t c = 0;
            for (; c + 32 <= in_; c += 32) {
              sums = _mm512_fmadd_ps(get(pixel + c), _mm512_load_ps(w + c), sums);
              others = _mm512_fmadd_ps(get(pixel + c + 16), _mm512_load_ps(w + c + 16), others);
            }
            if (c < in_) sums = _mm512_fmadd_ps(get(pixel + c), _mm512_load_ps(w + c), sums);
          }
          planes[((b * out_ + o) * s.height + y) * s.width + x] =
              bias_[o] + _mm512_reduce_add_ps(_mm512_add_ps(sums, others));
        }
    }
  });
}

}  // namespace pnpkit
