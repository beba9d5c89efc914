// The convolutions of a U-Net, for CPUs with AVX-512. Images are NHWC, channels padded with zeros to a multiple of 16.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

namespace pnpkit {

inline int64_t padded(int64_t channels) { return (channels + 15) / 16 * 16; }

template <class T>
struct Aligned {  // 64-byte aligned storage, zero at first
  explicit Aligned(size_t n = 0) { resize(n); }
  void resize(size_t n) {
    const size_t bytes = (n * sizeof(T) + 63) / 64 * 64;
    T* p = n ? static_cast<T*>(std::aligned_alloc(64, bytes)) : nullptr;
    if (n && !p) throw std::bad_alloc();
    if (n) std::memset(p, 0, bytes);
    data_.reset(p);
    size_ = n;
  }
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> data_;
  size_t size_ = 0;
};

// An image in float, or in bfloat16 where the convolution that reads it rounds anyway: half the memory to move.
struct Image {
  float* exact = nullptr;
  uint16_t* half = nullptr;
};

// What becomes of the sums of a convolution, per sample b and channel c.
struct Finish {
  const float* scale = nullptr;     // (B, C) or null: sums · scale
  const float* shift = nullptr;     // (B, C), or (C) when scale is null: + shift
  const float* residual = nullptr;  // NHWC or null: + residual
  float* plain = nullptr;           // NHWC or null: the result
  Image active;                     // NHWC, or neither: silu of the result,
  bool silu = true;                 // or the result itself
};

struct Size {
  int64_t batch, height, width;
  bool operator==(const Size&) const = default;
};

bool has_avx512();
bool has_avx512_bf16();

// Kernels (k, columns, 3, 3) in memory, by their strides: k is summed over.
template <class F>
struct Kernels {
  F* first;
  int64_t k, columns, next_k, next_column, down, across;
};

// Matrices of weights as the products read them: float, or rounded to bfloat16.
class Panels {
 public:
  Panels(size_t numbers, bool bf16) : bf16_(bf16), exact_(bf16 ? 0 : numbers), half_(bf16 ? numbers : 0) {}
  // A row-major matrix (k, columns), kept from number ``at`` on.
  void put(size_t at, const float* matrix, int64_t k, int64_t columns);
  // f(numbers) writes them all.
  template <class F>
  void fill(const F& f) {
    if (bf16_)
      f(half_.data());
    else
      f(exact_.data());
  }
  // f(image, weights), both in the arithmetic of the weights.
  template <class F>
  void with(Image image, const F& f) const {
    if (bf16_)
      f(static_cast<const uint16_t*>(image.half), half_.data());
    else
      f(static_cast<const float*>(image.exact), exact_.data());
  }

 private:
  bool bf16_;
  Aligned<float> exact_;
  Aligned<uint16_t> half_;
};

// 3×3 by Winograd's F(4×4, 3×3) (winograd.cpp).
class Conv3x3 {
 public:
  // weight (out, in, 3, 3) contiguous; bf16: products of bfloat16 numbers, sums in float; the image is then in
  // bfloat16.
  Conv3x3(const float* weight, int64_t out, int64_t in, bool bf16);
  void run(Image image, Size size, const Finish& finish) const;

 private:
  int64_t in_, out_;  // padded
  Panels weight_;
};

// The same from weights as they lie, and the gradient of weights; channels are multiples of 16, images both float or
// both bfloat16.
void convolve(Image image, Size size, const Kernels<const float>& weight, const Finish& finish);
void weight_gradient(Image image, Image gradient, Size size, const Kernels<float>& to);  // k: in, columns: out

// 2×2 with stride 2, and its transpose; weights as torch's Conv2d (out, in, 2, 2) and ConvTranspose2d (in, out, 2, 2).
class Halve {
 public:
  Halve(const float* weight, int64_t out, int64_t in, bool bf16);
  void run(Image image, Size fine, const Finish& finish) const;

 private:
  int64_t in_, out_;
  Panels weight_;
};

class Double {
 public:
  Double(const float* weight, int64_t in, int64_t out, bool bf16);
  void run(Image image, Size coarse, const Finish& finish) const;

 private:
  int64_t in_, out_;
  Panels weight_;
};

// 3×3 from few channels (planes, NCHW) and to few channels.
class Head {
 public:
  Head(const float* weight, int64_t out, int64_t in);
  void run(const float* planes, Size size, const Finish& finish) const;

 private:
  int64_t in_, out_;
  Aligned<float> weight_;
};

class Tail {
 public:
  Tail(const float* weight, const float* bias, int64_t out, int64_t in);
  void run(Image image, Size size, float* planes) const;

 private:
  template <class T>
  void run_on(const T* image, Size size, float* planes) const;

  int64_t in_, out_;
  Aligned<float> weight_;
  std::vector<float> bias_;
};

}  // namespace pnpkit
