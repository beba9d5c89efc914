// Vectors of 16 channels: loads and stores, SiLU, and the last pass of every convolution. AVX-512 only.
#pragma once

#include <immintrin.h>

#include "convolutions.h"

namespace pnpkit {

using V = __m512;

inline V exponential(V x) {
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

inline V silu(V x) {
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

// Two vectors rounded to bfloat16, number by number side by side.
inline __m512i interleaved(V first, V second) {
  const auto half = [](V v) { return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(v)); };
  return _mm512_or_si512(half(first), _mm512_slli_epi32(half(second), 16));
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

inline float* scratch(size_t floats) {  // of this thread, kept for its next use
  thread_local Aligned<float> kept;
  if (kept.size() < floats) kept.resize(floats);
  return kept.data();
}

}  // namespace pnpkit
