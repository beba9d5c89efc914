#include "winograd.h"

#include <ATen/Parallel.h>
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace pnpkit {

namespace {

using V = __m512;

constexpr int ROWS = 8;                // rows of a register tile
constexpr int PANEL = 3;               // vectors of 16 columns of a register tile
constexpr int64_t CACHE = 700 * 1024;  // bytes of a block of tiles, to stay in a core's second-level cache

// --- matrix products: c (rows, 16·vectors) = a (rows, k) · b (k, 16·vectors), b in panels ---

int width_of(int left) { return left == 4 ? 2 : std::min(left, PANEL); }

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

uint16_t rounded(float value) {  // to the nearest bfloat16, ties to even
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// Row-major (k, columns) to panels.
void pack(const float* matrix, int64_t k, int64_t columns, float* to) {
  const int vectors = static_cast<int>(columns / 16);
  for (int first = 0, w; first < vectors; first += w) {
    w = width_of(vectors - first);
    for (int64_t i = 0; i < k; ++i, to += 16 * w) std::copy_n(matrix + i * columns + 16 * first, 16 * w, to);
  }
}

void pack(const float* matrix, int64_t k, int64_t columns, uint16_t* to) {
  const int vectors = static_cast<int>(columns / 16);
  for (int first = 0, w; first < vectors; first += w) {
    w = width_of(vectors - first);
    for (int64_t i = 0; i < k; i += 2, to += 32 * w)
      for (int64_t j = 0; j < 16 * w; ++j)
        for (int half = 0; half < 2; ++half) to[2 * j + half] = rounded(matrix[(i + half) * columns + 16 * first + j]);
  }
}

// --- pointwise ---

V exponential(V x) {
  x = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-87.0f)), _mm512_set1_ps(88.0f));
  const V n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  V r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  // Taylor's series to the 7th power: 2e-8 relative on |r| ≤ ln 2 / 2
  V p = _mm512_set1_ps(1.0f / 5040);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 720));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 120));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 24));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 6));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, n);
}

V silu(V x) {
  const V one = _mm512_set1_ps(1.0f);
  return _mm512_div_ps(x, _mm512_add_ps(one, exponential(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

inline void put(float* to, V value) { _mm512_storeu_ps(to, value); }
inline void put(uint16_t* to, V value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(value));
}
inline V get(const float* from) { return _mm512_loadu_ps(from); }
inline V get(const uint16_t* from) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

// ``sums`` at channel c of sample b; ``at`` is the place in the images.
inline void finish(const Finish& f, V sums, int64_t b, int64_t channels, int64_t c, int64_t at) {
  if (f.scale)
    sums =
        _mm512_fmadd_ps(sums, _mm512_loadu_ps(f.scale + b * channels + c), _mm512_loadu_ps(f.shift + b * channels + c));
  else if (f.shift)
    sums = _mm512_add_ps(sums, _mm512_loadu_ps(f.shift + c));
  if (f.residual) sums = _mm512_add_ps(sums, _mm512_loadu_ps(f.residual + at));
  if (f.plain) _mm512_storeu_ps(f.plain + at, sums);
  if (!f.active.exact && !f.active.half) return;
  if (f.silu) sums = silu(sums);
  if (f.active.half)
    put(f.active.half + at, sums);
  else
    put(f.active.exact + at, sums);
}

float* scratch(size_t floats) {  // of this thread, kept for its next use
  thread_local Aligned<float> kept;
  if (kept.size() < floats) kept.resize(floats);
  return kept.data();
}

// --- Winograd ---

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
    : in_(padded(in)), out_(padded(out)), bf16_(bf16) {
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
  if (bf16)
    half_.resize(36 * n);
  else
    exact_.resize(36 * n);
  for (int k = 0; k < 36; ++k)
    if (bf16)
      pack(spread.data() + k * n, in_, out_, half_.data() + k * n);
    else
      pack(spread.data() + k * n, in_, out_, exact_.data() + k * n);
}

void Conv3x3::run(Image image, Size size, const Finish& f) const {
  if (bf16_)
    convolve(image.half, size, in_, out_, half_.data(), f);
  else
    convolve(image.exact, size, in_, out_, exact_.data(), f);
}

// --- 2×2 ---

Halve::Halve(const float* weight, int64_t out, int64_t in, bool bf16)
    : in_(padded(in)), out_(padded(out)), bf16_(bf16) {
  const int64_t n = 4 * in_ * out_;
  Aligned<float> matrix(n);
  for (int64_t o = 0; o < out; ++o)
    for (int64_t i = 0; i < in; ++i)
      for (int p = 0; p < 4; ++p) matrix.data()[(p * in_ + i) * out_ + o] = weight[(o * in + i) * 4 + p];
  if (bf16)
    half_.resize(n);
  else
    exact_.resize(n);
  for (int64_t row = 0; row < n; row += n / 2)
    if (bf16)
      pack(matrix.data() + row, 2 * in_, out_, half_.data() + row);
    else
      pack(matrix.data() + row, 2 * in_, out_, exact_.data() + row);
}

void Halve::run(Image image, Size fine, const Finish& f) const {
  if (bf16_)
    run_on(image.half, half_.data(), fine, f);
  else
    run_on<float>(image.exact, exact_.data(), fine, f);
}

template <class T>
void Halve::run_on(const T* image, const T* weight, Size fine, const Finish& f) const {
  const int64_t height = fine.height / 2, width = fine.width / 2;
  at::parallel_for(0, fine.batch * height, 1, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const T* upper = image + 2 * k * fine.width * in_;  // the rows of all samples follow one another
      float* sums = scratch(width * out_);
      product(width, upper, 2 * in_, weight, 2 * in_, sums, out_);
      product<true>(width, upper + fine.width * in_, 2 * in_, weight + 2 * in_ * out_, 2 * in_, sums, out_);
      for (int64_t x = 0; x < width; ++x)
        for (int64_t c = 0; c < out_; c += 16)
          finish(f, _mm512_load_ps(sums + x * out_ + c), k / height, out_, c, (k * width + x) * out_ + c);
    }
  });
}

Double::Double(const float* weight, int64_t in, int64_t out, bool bf16)
    : in_(padded(in)), out_(padded(out)), bf16_(bf16) {
  const int64_t n = in_ * out_;
  Aligned<float> matrix(n);
  if (bf16)
    half_.resize(4 * n);
  else
    exact_.resize(4 * n);
  for (int p = 0; p < 4; ++p) {
    for (int64_t i = 0; i < in; ++i)
      for (int64_t o = 0; o < out; ++o) matrix.data()[i * out_ + o] = weight[(i * out + o) * 4 + p];
    if (bf16)
      pack(matrix.data(), in_, out_, half_.data() + p * n);
    else
      pack(matrix.data(), in_, out_, exact_.data() + p * n);
  }
}

void Double::run(Image image, Size coarse, const Finish& f) const {
  if (bf16_)
    run_on(image.half, half_.data(), coarse, f);
  else
    run_on<float>(image.exact, exact_.data(), coarse, f);
}

template <class T>
void Double::run_on(const T* image, const T* weight, Size coarse, const Finish& f) const {
  const int64_t width = coarse.width;
  at::parallel_for(0, coarse.batch * coarse.height, 1, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k)
      for (int p = 0; p < 4; ++p) {
        float* sums = scratch(width * out_);
        product(width, image + k * width * in_, in_, weight + p * in_ * out_, in_, sums, out_);
        for (int64_t x = 0; x < width; ++x)
          for (int64_t c = 0; c < out_; c += 16)
            finish(f, _mm512_load_ps(sums + x * out_ + c), k / coarse.height, out_, c,
                   ((2 * k + p / 2) * 2 * width + 2 * x + p % 2) * out_ + c);
      }
  });
}

// --- the ends ---

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
