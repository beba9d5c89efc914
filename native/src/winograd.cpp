// 3×3 convolutions by Winograd's F(4×4, 3×3).
#include "winograd.h"

#include <ATen/Parallel.h>

namespace pnpkit {
namespace winograd {
namespace {

constexpr int64_t CACHE = 700 * 1024;  // bytes of a block of tiles, to stay in a core's second-level cache

void gather(const float* from, int64_t stride, Size s, int64_t b, int64_t channels, int64_t y, int64_t x,
            const Finish& f) {
  const int64_t rows = std::min<int64_t>(4, s.height - y), columns = std::min<int64_t>(4, s.width - x);
  for (int64_t c = 0; c < channels; c += 16) {
    V m[36], o[16];
#pragma GCC unroll 36
    for (int p = 0; p < 36; ++p) m[p] = _mm512_load_ps(from + p * stride + c);
    both_ways<6, 4>(m, o, out_1d);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j)
        finish(f, o[4 * i + j], b, channels, c, ((b * s.height + y + i) * s.width + x + j) * channels + c);
  }
}

// One kernel tap of 16 columns.
inline V taps(const Kernels<const float>& w, int64_t k, int64_t column, int64_t y, int64_t x) {
  if (k >= w.k || column >= w.columns) return _mm512_setzero_ps();
  const __mmask16 there = static_cast<__mmask16>((1u << std::min<int64_t>(16, w.columns - column)) - 1);
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i at = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(static_cast<int>(w.next_column)));
  const float* first = w.first + k * w.next_k + column * w.next_column + y * w.down + x * w.across;
  return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), there, at, first, 4);
}

inline void put_step(float* to, const V* one) { _mm512_store_ps(to, one[0]); }
inline void put_step(uint16_t* to, const V* pair) { _mm512_store_si512(to, interleaved(pair[0], pair[36])); }

// G w Gᵀ of all kernels, each of the 36 a matrix (k, columns) in panels, both padded with zeros to multiples of 16.
template <class T>
void pack(const Kernels<const float>& w, T* to) {
  constexpr int S = Step<T>::SIZE;
  const int64_t k = padded(w.k), columns = padded(w.columns), steps = k / S;
  const int vectors = static_cast<int>(columns / 16);
  at::parallel_for(0, vectors * steps, 64, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      const int v = static_cast<int>(n / steps);
      const int64_t i = n % steps;
      int panel = 0;
      while (panel + width_of(vectors - panel) <= v) panel += width_of(vectors - panel);
      T* at = to + 16 * panel * k + (i * width_of(vectors - panel) + v - panel) * 16 * S;
      V d[9], o[36 * S];
      for (int part = 0; part < S; ++part) {
        for (int y = 0; y < 3; ++y)
          for (int x = 0; x < 3; ++x) d[3 * y + x] = taps(w, i * S + part, 16 * v, y, x);
        both_ways<3, 6>(d, o + 36 * part, kernel_1d);
      }
      for (int p = 0; p < 36; ++p) put_step(at + p * k * columns, o + p);
    }
  });
}

// ``weight`` as ``pack`` leaves it.
template <class T>
void convolve(const T* image, Size s, int64_t in, int64_t out, const T* weight, const Finish& f) {
  const Tiles tiles(s);
  const int64_t fit = CACHE / (36 * (in * int64_t{sizeof(T)} + out * 4));
  const int64_t fair = (tiles.all + at::get_num_threads() - 1) / at::get_num_threads();
  const int64_t block = std::max<int64_t>(ROWS, std::min({fit, fair + ROWS - 1, int64_t{96}}) / ROWS * ROWS);
  at::parallel_for(0, (tiles.all + block - 1) / block, 1, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const int64_t first = k * block, n = std::min(block, tiles.all - first);
      T* spreads = reinterpret_cast<T*>(scratch(36 * block * (in + out)));
      float* sums = reinterpret_cast<float*>(spreads) + 36 * block * in;
      for (int64_t i = 0; i < n; ++i) {
        const T* one = image + tiles.sample(first + i) * s.height * s.width * in;
        for (int64_t c = 0; c < in; c += 16) {
          V o[36];
          spread(one, s, in, c, tiles.y(first + i), tiles.x(first + i), o);
#pragma GCC unroll 36
          for (int p = 0; p < 36; ++p) put(spreads + (p * n + i) * in + c, o[p]);
        }
      }
      for (int p = 0; p < 36; ++p)
        product(n, spreads + p * n * in, in, weight + p * in * out, in, sums + p * n * out, out);
      for (int64_t i = 0; i < n; ++i)
        gather(sums + i * out, n * out, s, tiles.sample(first + i), out, tiles.y(first + i), tiles.x(first + i), f);
    }
  });
}

}  // namespace
}  // namespace winograd

Conv3x3::Conv3x3(const float* weight, int64_t out, int64_t in, bool bf16)
    : in_(padded(in)), out_(padded(out)), weight_(36 * in_ * out_, bf16) {
  weight_.fill([&](auto* to) { winograd::pack({weight, in, out, 9, 9 * in, 3, 1}, to); });
}

void Conv3x3::run(Image image, Size size, const Finish& f) const {
  weight_.with(image, [&](auto pixels, auto weight) { winograd::convolve(pixels, size, in_, out_, weight, f); });
}

void convolve(Image image, Size size, const Kernels<const float>& w, const Finish& f) {
  static thread_local Aligned<float> kept;  // not scratch(), which ``convolve`` uses
  const auto run = [&](auto* pixels) {
    using T = std::remove_pointer_t<decltype(pixels)>;
    const size_t floats = 36 * w.k * w.columns / Step<T>::SIZE;
    if (kept.size() < floats) kept.resize(floats);
    T* const packed = reinterpret_cast<T*>(kept.data());
    winograd::pack(w, packed);
    winograd::convolve(pixels, size, w.k, w.columns, packed, f);
  };
  image.half ? run(image.half) : run(image.exact);
}

}  // namespace pnpkit
