// Matrix products in registers: c (rows, 16·vectors) = a · b, sums in float. AVX-512 only.
#pragma once

#include <algorithm>
#include <cstring>

#include "vectors.h"

namespace pnpkit {

constexpr int ROWS = 8;   // of a register tile
constexpr int PANEL = 3;  // vectors of 16 columns of a register tile

inline int width_of(int left) { return left == 4 ? 2 : std::min(left, PANEL); }

// What one step of the inner loop takes of the summed index: one float, or a pair of bfloat16 side by side.
template <class T>
struct Step;

template <>
struct Step<float> {
  static constexpr int SIZE = 1;
  using Numbers = V;
  static Numbers load(const float* p) { return _mm512_load_ps(p); }
  static Numbers everywhere(const float* p) { return _mm512_set1_ps(*p); }
  static V add(V sum, Numbers x, Numbers w) { return _mm512_fmadd_ps(x, w, sum); }
};

template <>
struct Step<uint16_t> {
  static constexpr int SIZE = 2;
  using Numbers = __m512i;
  static Numbers load(const uint16_t* p) { return _mm512_load_si512(p); }
  static Numbers everywhere(const uint16_t* p) {
    int32_t pair;
    std::memcpy(&pair, p, 4);
    return _mm512_set1_epi32(pair);
  }
  static V add(V sum, Numbers x, Numbers w) { return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)w); }
};

// How a and b lie: a's rows ``row`` apart, its steps ``step``; b's steps ``next``, in each 16·vectors columns.
struct Layout {
  int64_t row, step, next;
};

template <int R, int N, bool Add, class T>
inline __attribute__((always_inline)) void tile(const T* a, const T* b, Layout at, int64_t steps, float* c,
                                                int64_t ldc) {
  using S = Step<T>;
  V s[R][N];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
    for (int n = 0; n < N; ++n) s[r][n] = Add ? _mm512_loadu_ps(c + r * ldc + 16 * n) : _mm512_setzero_ps();
  for (int64_t i = 0; i < steps; ++i) {
    typename S::Numbers w[N];
#pragma GCC unroll 3
    for (int n = 0; n < N; ++n) w[n] = S::load(b + i * at.next + 16 * S::SIZE * n);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const auto x = S::everywhere(a + r * at.row + i * at.step);
#pragma GCC unroll 3
      for (int n = 0; n < N; ++n) s[r][n] = S::add(s[r][n], x, w[n]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
    for (int n = 0; n < N; ++n) _mm512_storeu_ps(c + r * ldc + 16 * n, s[r][n]);
}

template <int N, bool Add, class T>
inline __attribute__((always_inline)) void rows_of(int64_t rows, const T* a, const T* b, Layout at, int64_t steps,
                                                   float* c, int64_t ldc) {
  for (; rows >= ROWS; rows -= ROWS, a += ROWS * at.row, c += ROWS * ldc) tile<ROWS, N, Add>(a, b, at, steps, c, ldc);
  if (rows >= 4) {
    tile<4, N, Add>(a, b, at, steps, c, ldc);
    rows -= 4, a += 4 * at.row, c += 4 * ldc;
  }
  for (; rows > 0; --rows, a += at.row, c += ldc) tile<1, N, Add>(a, b, at, steps, c, ldc);
}

template <int N, bool Add, class T>
void panel_of(int64_t rows, const T* a, int64_t lda, const T* b, int64_t k, float* c, int64_t ldc) {
  constexpr int S = Step<T>::SIZE;
  rows_of<N, Add>(rows, a, b, {lda, S, 16 * N * S}, k / S, c, ldc);
}

// a (rows, k) row-major; b (k, columns) in panels of up to 3 vectors, its rows in pairs for bfloat16: k even.
template <bool Add = false, class T>
void product(int64_t rows, const T* a, int64_t lda, const T* b, int64_t k, float* c, int64_t columns) {
  const int vectors = static_cast<int>(columns / 16);
  for (int first = 0, w; first < vectors; first += w) {
    w = width_of(vectors - first);
    const T* panel = b + int64_t{16} * first * k;
    float* to = c + 16 * first;
    if (w == 3)
      panel_of<3, Add>(rows, a, lda, panel, k, to, columns);
    else if (w == 2)
      panel_of<2, Add>(rows, a, lda, panel, k, to, columns);
    else
      panel_of<1, Add>(rows, a, lda, panel, k, to, columns);
  }
}

template <int N, class T>
void columns_of(bool add, int64_t rows, const T* a, const T* b, int64_t columns, int64_t k, float* c) {
  constexpr int S = Step<T>::SIZE;
  const Layout at{S, rows * S, columns * S};
  if (add)
    rows_of<N, true>(rows, a, b, at, k / S, c, columns);
  else
    rows_of<N, false>(rows, a, b, at, k / S, c, columns);
}

// c (rows, columns) = or += aᵀ·b: a (k, rows) and b (k, columns), their rows in pairs for bfloat16: k even.
template <class T>
void outer_product(bool add, int64_t rows, const T* a, int64_t columns, const T* b, int64_t k, float* c) {
  const int vectors = static_cast<int>(columns / 16);
  for (int first = 0, w; first < vectors; first += w) {
    w = width_of(vectors - first);
    const T* from = b + 16 * Step<T>::SIZE * first;
    float* to = c + 16 * first;
    if (w == 3)
      columns_of<3>(add, rows, a, from, columns, k, to);
    else if (w == 2)
      columns_of<2>(add, rows, a, from, columns, k, to);
    else
      columns_of<1>(add, rows, a, from, columns, k, to);
  }
}

}  // namespace pnpkit
