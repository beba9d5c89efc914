// Matrix products in registers: c (rows, 16·vectors) = a (rows, k) · b (k, 16·vectors), b in panels. AVX-512 only.
#pragma once

#include <algorithm>
#include <cstring>

#include "vectors.h"

namespace pnpkit {

constexpr int ROWS = 8;   // of a register tile
constexpr int PANEL = 3;  // vectors of 16 columns of a register tile

inline int width_of(int left) { return left == 4 ? 2 : std::min(left, PANEL); }

template <int R, int N, bool Add>
void tile(const float* a, int64_t lda, const float* b, int64_t k, float* c, int64_t ldc) {
  V s[R][N];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
    for (int n = 0; n < N; ++n) s[r][n] = Add ? _mm512_loadu_ps(c + r * ldc + 16 * n) : _mm512_setzero_ps();
  for (int64_t i = 0; i < k; ++i, b += 16 * N) {
    V w[N];
#pragma GCC unroll 3
    for (int n = 0; n < N; ++n) w[n] = _mm512_load_ps(b + 16 * n);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const V x = _mm512_set1_ps(a[r * lda + i]);
#pragma GCC unroll 3
      for (int n = 0; n < N; ++n) s[r][n] = _mm512_fmadd_ps(x, w[n], s[r][n]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
    for (int n = 0; n < N; ++n) _mm512_storeu_ps(c + r * ldc + 16 * n, s[r][n]);
}

// k even; a row holds pairs side by side, b has the two rows of a pair interleaved.
template <int R, int N, bool Add>
void tile(const uint16_t* a, int64_t lda, const uint16_t* b, int64_t k, float* c, int64_t ldc) {
  V s[R][N];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
    for (int n = 0; n < N; ++n) s[r][n] = Add ? _mm512_loadu_ps(c + r * ldc + 16 * n) : _mm512_setzero_ps();
  for (int64_t i = 0; i < k; i += 2, b += 32 * N) {
    __m512i w[N];
#pragma GCC unroll 3
    for (int n = 0; n < N; ++n) w[n] = _mm512_load_si512(b + 32 * n);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      int32_t pair;
      std::memcpy(&pair, a + r * lda + i, 4);
      const __m512i x = _mm512_set1_epi32(pair);
#pragma GCC unroll 3
      for (int n = 0; n < N; ++n) s[r][n] = _mm512_dpbf16_ps(s[r][n], (__m512bh)x, (__m512bh)w[n]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
    for (int n = 0; n < N; ++n) _mm512_storeu_ps(c + r * ldc + 16 * n, s[r][n]);
}

template <int N, bool Add, class T>
void rows_of(int64_t rows, const T* a, int64_t lda, const T* b, int64_t k, float* c, int64_t ldc) {
  for (; rows >= ROWS; rows -= ROWS, a += ROWS * lda, c += ROWS * ldc) tile<ROWS, N, Add>(a, lda, b, k, c, ldc);
  if (rows >= 4) {
    tile<4, N, Add>(a, lda, b, k, c, ldc);
    rows -= 4, a += 4 * lda, c += 4 * ldc;
  }
  for (; rows > 0; --rows, a += lda, c += ldc) tile<1, N, Add>(a, lda, b, k, c, ldc);
}

template <bool Add = false, class T>
void product(int64_t rows, const T* a, int64_t lda, const T* b, int64_t k, float* c, int64_t columns) {
  const int vectors = static_cast<int>(columns / 16);
  for (int first = 0, w; first < vectors; first += w) {
    w = width_of(vectors - first);
    const T* panel = b + int64_t{16} * first * k;
    float* to = c + 16 * first;
    if (w == 3)
      rows_of<3, Add>(rows, a, lda, panel, k, to, columns);
    else if (w == 2)
      rows_of<2, Add>(rows, a, lda, panel, k, to, columns);
    else
      rows_of<1, Add>(rows, a, lda, panel, k, to, columns);
  }
}

}  // namespace pnpkit
