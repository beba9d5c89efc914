#include "products.h"

namespace pnpkit {
namespace {

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

}  // namespace

void Panels::put(size_t at, const float* matrix, int64_t k, int64_t columns) {
  if (bf16_)
    pack(matrix, k, columns, half_.data() + at);
  else
    pack(matrix, k, columns, exact_.data() + at);
}

}  // namespace pnpkit
