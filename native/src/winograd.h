// Winograd's F(4×4, 3×3) on vectors of 16 channels: the transforms of image tiles, of kernels, of sums. AVX-512 only.
//
// Lavin & Gray, CVPR 2016 (arXiv 1509.09308, §4): an output tile of 4×4 pixels from an input tile of 6×6 costs 36
// products a channel pair in place of 144: Aᵀ((G w Gᵀ) ⊙ (Bᵀ d B))A.
#pragma once

#include "products.h"

namespace pnpkit::winograd {

// Interpolation points 0, ±P, ±Q, ∞. Rounding the transformed numbers adds noise to the sums: with the usual ±1, ±2
// 2.3 times as much as with these, which are near the best of this form for white inputs (native/NOTES.md).
constexpr float P = 0.65625f, Q = 1.53125f, PP = P * P, QQ = Q * Q;
constexpr float AT_0 = 1 / (PP * QQ), AT_P = 1 / (2 * PP * (PP - QQ)), AT_Q = 1 / (2 * QQ * (QQ - PP));

inline V set(float value) { return _mm512_set1_ps(value); }

// Each of these takes vectors ``step`` apart and writes vectors ``to`` apart.

inline void in_1d(const V* d, int step, V* o, int to) {  // Bᵀ: six to six
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

inline void out_1d(const V* m, int step, V* o, int to) {  // Aᵀ: six to four
  const V even_p = _mm512_add_ps(m[step], m[2 * step]), odd_p = _mm512_sub_ps(m[step], m[2 * step]);
  const V even_q = _mm512_add_ps(m[3 * step], m[4 * step]), odd_q = _mm512_sub_ps(m[3 * step], m[4 * step]);
  o[0] = _mm512_add_ps(m[0], _mm512_add_ps(even_p, even_q));
  o[to] = _mm512_fmadd_ps(set(Q), odd_q, _mm512_mul_ps(set(P), odd_p));
  o[2 * to] = _mm512_fmadd_ps(set(QQ), even_q, _mm512_mul_ps(set(PP), even_p));
  o[3 * to] = _mm512_fmadd_ps(set(QQ * Q), odd_q, _mm512_fmadd_ps(set(PP * P), odd_p, m[5 * step]));
}

inline void back_1d(const V* g, int step, V* o, int to) {  // A: four to six
  const V g0 = g[0], g1 = g[step], g2 = g[2 * step], g3 = g[3 * step];
  const V even_p = _mm512_fmadd_ps(set(PP), g2, g0), odd_p = _mm512_mul_ps(set(P), _mm512_fmadd_ps(set(PP), g3, g1));
  const V even_q = _mm512_fmadd_ps(set(QQ), g2, g0), odd_q = _mm512_mul_ps(set(Q), _mm512_fmadd_ps(set(QQ), g3, g1));
  o[0] = g0;
  o[to] = _mm512_add_ps(even_p, odd_p);
  o[2 * to] = _mm512_sub_ps(even_p, odd_p);
  o[3 * to] = _mm512_add_ps(even_q, odd_q);
  o[4 * to] = _mm512_sub_ps(even_q, odd_q);
  o[5 * to] = g3;
}

inline void kernel_1d(const V* w, int step, V* o, int to) {  // G: three to six
  const V w0 = w[0], w1 = w[step], w2 = w[2 * step];
  const V even_p = _mm512_fmadd_ps(set(PP), w2, w0), odd_p = _mm512_mul_ps(set(P), w1);
  const V even_q = _mm512_fmadd_ps(set(QQ), w2, w0), odd_q = _mm512_mul_ps(set(Q), w1);
  o[0] = _mm512_mul_ps(set(AT_0), w0);
  o[to] = _mm512_mul_ps(set(AT_P), _mm512_add_ps(even_p, odd_p));
  o[2 * to] = _mm512_mul_ps(set(AT_P), _mm512_sub_ps(even_p, odd_p));
  o[3 * to] = _mm512_mul_ps(set(AT_Q), _mm512_add_ps(even_q, odd_q));
  o[4 * to] = _mm512_mul_ps(set(AT_Q), _mm512_sub_ps(even_q, odd_q));
  o[5 * to] = w2;
}

inline void kernel_back_1d(const V* m, int step, V* o, int to) {  // Gᵀ: six to three
  const V even_p = _mm512_mul_ps(set(AT_P), _mm512_add_ps(m[step], m[2 * step]));
  const V odd_p = _mm512_mul_ps(set(AT_P), _mm512_sub_ps(m[step], m[2 * step]));
  const V even_q = _mm512_mul_ps(set(AT_Q), _mm512_add_ps(m[3 * step], m[4 * step]));
  const V odd_q = _mm512_mul_ps(set(AT_Q), _mm512_sub_ps(m[3 * step], m[4 * step]));
  o[0] = _mm512_fmadd_ps(set(AT_0), m[0], _mm512_add_ps(even_p, even_q));
  o[to] = _mm512_fmadd_ps(set(P), odd_p, _mm512_mul_ps(set(Q), odd_q));
  o[2 * to] = _mm512_fmadd_ps(set(PP), even_p, _mm512_fmadd_ps(set(QQ), even_q, m[5 * step]));
}

// A tile of From×From vectors through a one-dimensional transform to To×To, both row by row.
template <int From, int To, class F>
inline __attribute__((always_inline)) void both_ways(const V* d, V* o, const F& transform) {
  V t[To * From];
#pragma GCC unroll 6
  for (int j = 0; j < From; ++j) transform(d + j, From, t + j, From);
#pragma GCC unroll 6
  for (int i = 0; i < To; ++i) transform(t + From * i, 1, o + To * i, 1);
}

// Side×Side pixels from (y, x) on, 16 channels from c on; zeros outside of the image.
template <int Side, class T>
inline __attribute__((always_inline)) void load(const T* image, Size s, int64_t channels, int64_t c, int64_t y,
                                                int64_t x, V* d) {
  const bool inside = y >= 0 && x >= 0 && y + Side <= s.height && x + Side <= s.width;
  const T* corner = image + (y * s.width + x) * channels + c;
  if (inside) {
#pragma GCC unroll 6
    for (int i = 0; i < Side; ++i)
#pragma GCC unroll 6
      for (int j = 0; j < Side; ++j) d[Side * i + j] = get(corner + (i * s.width + j) * channels);
  } else {
    for (int i = 0; i < Side; ++i)
      for (int j = 0; j < Side; ++j) {
        const bool there = y + i >= 0 && y + i < s.height && x + j >= 0 && x + j < s.width;
        d[Side * i + j] = there ? get(corner + (i * s.width + j) * channels) : _mm512_setzero_ps();
      }
  }
}

// Bᵀ d B of the tile whose first output pixel is (y, x).
template <class T>
inline __attribute__((always_inline)) void spread(const T* image, Size s, int64_t channels, int64_t c, int64_t y,
                                                  int64_t x, V* o) {
  V d[36];
  load<6>(image, s, channels, c, y - 1, x - 1, d);
  both_ways<6, 6>(d, o, in_1d);
}

struct Tiles {  // of 4×4 pixels of all samples
  int64_t across, each, all;
  explicit Tiles(Size s) : across((s.width + 3) / 4), each((s.height + 3) / 4 * across), all(s.batch * each) {}
  int64_t sample(int64_t k) const { return k / each; }
  int64_t y(int64_t k) const { return 4 * (k % each / across); }
  int64_t x(int64_t k) const { return 4 * (k % each % across); }
};

}  // namespace pnpkit::winograd
