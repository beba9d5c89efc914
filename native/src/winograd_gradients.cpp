// The gradient of a 3×3 convolution's weights in Winograd's domain.
//
// A tile of the output is Aᵀ((G w Gᵀ) ⊙ (Bᵀ d B))A, so with g the gradient of that tile the one of w is
// Gᵀ(Σ (A g Aᵀ) ⊙ (Bᵀ d B))G, summed over all tiles: 36 matrix products of (out, tiles) with (tiles, in).
#include <ATen/Parallel.h>

#include "winograd.h"

namespace pnpkit::winograd {
namespace {

constexpr int64_t CACHE = 6 << 20;  // bytes of the transformed tiles of a block, shared by all threads

template <class T>
inline __attribute__((always_inline)) void gradient_spread(const T* gradient, Size s, int64_t channels, int64_t c,
                                                           int64_t y, int64_t x, V* o) {
  V g[16];
  load<4>(gradient, s, channels, c, y, x, g);
  both_ways<4, 6>(g, o, back_1d);
}

inline void put_step(float* to, const V& one, const V&) { _mm512_store_ps(to, one); }
inline void put_step(uint16_t* to, const V& one, const V& next) { _mm512_store_si512(to, interleaved(one, next)); }

// Tiles from ``first`` on, as many as one step takes, transformed: ``stride`` numbers between the 36.
template <class T, class F>
void spread_step(const Tiles& tiles, int64_t first, int64_t channels, T* to, int64_t stride, const F& transformed) {
  constexpr int S = Step<T>::SIZE;
  for (int64_t c = 0; c < channels; c += 16) {
    V o[2][36];
    for (int part = 0; part < S; ++part) {
      const int64_t k = first + part;
      if (k < tiles.all)
        transformed(k, c, o[part]);
      else
        std::fill_n(o[part], 36, _mm512_setzero_ps());
    }
#pragma GCC unroll 36
    for (int p = 0; p < 36; ++p) put_step(to + p * stride + S * c, o[0][p], o[S - 1][p]);
  }
}

template <class T>
void weight_gradient(const T* image, const T* gradient, Size s, const Kernels<float>& to) {
  constexpr int S = Step<T>::SIZE;
  const int64_t in = to.k, out = to.columns;
  const Tiles tiles(s);
  const int64_t fit = CACHE / (36 * (in + out) * int64_t{sizeof(T)}) / S * S;
  const int64_t block = std::max<int64_t>(S, std::min(fit, (tiles.all + S - 1) / S * S));
  float* const sums = scratch(36 * (in * out + block * (in + out)));
  T* const images = reinterpret_cast<T*>(sums + 36 * in * out);
  T* const gradients = images + 36 * block * in;
  const int64_t pixels = s.height * s.width;
  for (int64_t first = 0; first < tiles.all; first += block) {
    const int64_t n = std::min(block, (tiles.all - first + S - 1) / S * S);
    at::parallel_for(0, n / S, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t k = first + i * S;
        spread_step(tiles, k, in, images + i * S * in, n * in, [&](int64_t t, int64_t c, V* o) {
          spread(image + tiles.sample(t) * pixels * in, s, in, c, tiles.y(t), tiles.x(t), o);
        });
        spread_step(tiles, k, out, gradients + i * S * out, n * out, [&](int64_t t, int64_t c, V* o) {
          gradient_spread(gradient + tiles.sample(t) * pixels * out, s, out, c, tiles.y(t), tiles.x(t), o);
        });
      }
    });
    at::parallel_for(0, 36, 1, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p)
        outer_product(first > 0, out, gradients + p * n * out, in, images + p * n * in, n, sums + p * in * out);
    });
  }
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i places = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(static_cast<int>(to.next_k)));
  at::parallel_for(0, out, 4, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o)
      for (int64_t i = 0; i < in; i += 16) {
        V m[36], w[9];
        for (int p = 0; p < 36; ++p) m[p] = _mm512_load_ps(sums + (p * out + o) * in + i);
        both_ways<6, 3>(m, w, kernel_back_1d);
        float* const at = to.first + o * to.next_column + i * to.next_k;
        for (int y = 0; y < 3; ++y)
          for (int x = 0; x < 3; ++x) _mm512_i32scatter_ps(at + y * to.down + x * to.across, places, w[3 * y + x], 4);
      }
  });
}

}  // namespace
}  // namespace pnpkit::winograd

namespace pnpkit {

void weight_gradient(Image image, Image gradient, Size size, const Kernels<float>& to) {
  if (image.half)
    winograd::weight_gradient<uint16_t>(image.half, gradient.half, size, to);
  else
    winograd::weight_gradient<float>(image.exact, gradient.exact, size, to);
}

}  // namespace pnpkit
