// 3×3 convolutions by Winograd's F(4×4, 3×3).
//
// Lavin & Gray, CVPR 2016 (arXiv 1509.09308, §4): an output tile of 4×4 pixels from an input tile of 6×6 costs 36
// products a channel pair in place of 144.
#include <ATen/Parallel.h>

#include "products.h"

namespace pnpkit {
namespace {

constexpr int64_t CACHE = 700 * 1024;  // bytes of a block of tiles, to stay in a core's second-level cache

// Interpolation points 0, ±P, ±Q, ∞. Rounding the transformed numbers adds noise to the sums: with the usual ±1, ±2
// 2.3 times as much as with these, which are near the best of this form for white inputs (native/NOTES.md).
constexpr float P = 0.65625f, Q = 1.53125f, PP = P * P, QQ = Q * Q;

inline V set(float value) { return _mm512_set1_ps(value); }

// Bᵀ: six vectors, ``step`` apart, to six, ``to`` apart.
inline void in_1d(const V* d, int step, V* o, int to) {
  const V d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step], d5 = d[5 * step];
  const V even_p = _mm512_fnmadd_ps(set(QQ), d2, d4), odd_p = _mm512_mul_ps(set(P), _mm512_fnmadd_ps(set(QQ), d1, d3));
  const V even_q = _mm512_fnmadd_ps(set(PP), d2, d4), odd_q = _mm512_mul_ps(set(Q), _mm512_fnmadd_ps(set(PP), d1, d3));
  o[0] = _mm512_fmadd_ps(set(PP * QQ), d0, _mm512_fnmadd_ps(set(PP + QQ), d2, d4));
  o[to] = _mm512_add_ps(even_p, odd_p);
  o[2 * to] = _mm512_sub_ps(even_p, odd_p);
  o[3 * to] = _mm512_add_ps(even_q, odd_q);
  o[4 * to] = _mm512_sub_ps(even_q, odd_q);
  o[5 * to] = _mm512_fmadd_ps(set(PP * QQ), d1, _mm512_fnmadd_ps(set(PP + QQ), d3, d5));
}

// Aᵀ: six to four.
inline void out_1d(const V* m, int step, V* o, int to) {
  const V even_p = _mm512_add_ps(m[step], m[2 * step]), odd_p = _mm512_sub_ps(m[step], m[2 * step]);
  const V even_q = _mm512_add_ps(m[3 * step], m[4 * step]), odd_q = _mm512_sub_ps(m[3 * step], m[4 * step]);
  o[0] = _mm512_add_ps(m[0], _mm512_add_ps(even_p, even_q));
  o[to] = _mm512_fmadd_ps(set(Q), odd_q, _mm512_mul_ps(set(P), odd_p));
  o[2 * to] = _mm512_fmadd_ps(set(QQ), even_q, _mm512_mul_ps(set(PP), even_p));
  o[3 * to] = _mm512_fmadd_ps(set(QQ * Q), odd_q, _mm512_fmadd_ps(set(PP * P), odd_p, m[5 * step]));
}

// The 36 products of the tile whose first output pixel is (y, x); ``to`` with ``stride`` between them.
template <class T>
void spread(const T* image, Size s, int64_t channels, int64_t y, int64_t x, T* to, int64_t stride) {
  const bool inside = y > 0 && x > 0 && y + 5 <= s.height && x + 5 <= s.width;
  for (int64_t c = 0; c < channels; c += 16) {
    V d[36], t[36];
    const T* corner = image + ((y - 1) * s.width + x - 1) * channels + c;
    if (inside) {
#pragma GCC unroll 6
      for (int i = 0; i < 6; ++i)
#pragma GCC unroll 6
        for (int j = 0; j < 6; ++j) d[6 * i + j] = get(corner + (i * s.width + j) * channels);
    } else {
      for (int i = 0; i < 6; ++i)
        for (int j = 0; j < 6; ++j) {
          const bool there = y + i >= 1 && y + i <= s.height && x + j >= 1 && x + j <= s.width;
          d[6 * i + j] = there ? get(corner + (i * s.width + j) * channels) : _mm512_setzero_ps();
        }
    }
#pragma GCC unroll 6
    for (int j = 0; j < 6; ++j) in_1d(d + j, 6, t + j, 6);
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) in_1d(t + 6 * i, 1, d + 6 * i, 1);
#pragma GCC unroll 36
    for (int p = 0; p < 36; ++p) put(to + p * stride + c, d[p]);
  }
}

void gather(const float* from, int64_t stride, Size s, int64_t b, int64_t channels, int64_t y, int64_t x,
            const Finish& f) {
  const int64_t rows = std::min<int64_t>(4, s.height - y), columns = std::min<int64_t>(4, s.width - x);
  for (int64_t c = 0; c < channels; c += 16) {
    V m[36], t[24], o[16];
#pragma GCC unroll 36
    for (int p = 0; p < 36; ++p) m[p] = _mm512_load_ps(from + p * stride + c);
#pragma GCC unroll 6
    for (int j = 0; j < 6; ++j) out_1d(m + j, 6, t + j, 6);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) out_1d(t + 6 * i, 1, o + 4 * i, 1);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j)
        finish(f, o[4 * i + j], b, channels, c, ((b * s.height + y + i) * s.width + x + j) * channels + c);
  }
}

template <class T>
void convolve(const T* image, Size s, int64_t in, int64_t out, const T* weight, const Finish& f) {
  const int64_t across = (s.width + 3) / 4, tiles = (s.height + 3) / 4 * across, all = s.batch * tiles;
  const int64_t fit = CACHE / (36 * (in * int64_t{sizeof(T)} + out * 4));
  const int64_t fair = (all + at::get_num_threads() - 1) / at::get_num_threads();
  const int64_t block = std::max<int64_t>(ROWS, std::min({fit, fair + ROWS - 1, int64_t{96}}) / ROWS * ROWS);
  at::parallel_for(0, (all + block - 1) / block, 1, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const int64_t first = k * block, n = std::min(block, all - first);
      T* spreads = reinterpret_cast<T*>(scratch(36 * block * (in + out)));
      float* sums = reinterpret_cast<float*>(spreads) + 36 * block * in;
      for (int64_t i = 0; i < n; ++i) {
        const int64_t b = (first + i) / tiles, t = (first + i) % tiles;
        const T* one = image + b * s.height * s.width * in;
        spread(one, s, in, 4 * (t / across), 4 * (t % across), spreads + i * in, n * in);
      }
      for (int p = 0; p < 36; ++p)
        product(n, spreads + p * n * in, in, weight + p * in * out, in, sums + p * n * out, out);
      for (int64_t i = 0; i < n; ++i) {
        const int64_t b = (first + i) / tiles, t = (first + i) % tiles;
        gather(sums + i * out, n * out, s, b, out, 4 * (t / across), 4 * (t % across), f);
      }
    }
  });
}

}  // namespace

Conv3x3::Conv3x3(const float* weight, int64_t out, int64_t in, bool bf16)
    : in_(padded(in)), out_(padded(out)), weight_(36 * in_ * out_, bf16) {
  constexpr double p = P, q = Q, at_p = 1 / (2 * p * p * (p * p - q * q)), at_q = 1 / (2 * q * q * (q * q - p * p));
  constexpr double G[6][3] = {{1 / (p * p * q * q), 0, 0},     {at_p, at_p * p, at_p * p * p},
                              {at_p, -at_p * p, at_p * p * p}, {at_q, at_q * q, at_q * q * q},
                              {at_q, -at_q * q, at_q * q * q}, {0, 0, 1}};
  Aligned<float> spread(36 * in_ * out_);
  for (int64_t o = 0; o < out; ++o)
    for (int64_t i = 0; i < in; ++i) {
      const float* w = weight + (o * in + i) * 9;
      for (int r = 0; r < 6; ++r)
        for (int c = 0; c < 6; ++c) {
          double sum = 0;
          for (int y = 0; y < 3; ++y)
            for (int x = 0; x < 3; ++x) sum += G[r][y] * G[c][x] * w[3 * y + x];
          spread.data()[((6 * r + c) * in_ + i) * out_ + o] = static_cast<float>(sum);
        }
    }
  const int64_t n = in_ * out_;
  for (int k = 0; k < 36; ++k) weight_.put(k * n, spread.data() + k * n, in_, out_);
}

void Conv3x3::run(Image image, Size size, const Finish& f) const {
  weight_.with(image, [&](auto pixels, auto weight) { convolve(pixels, size, in_, out_, weight, f); });
}

}  // namespace pnpkit
