// In the place of the convolutions on processors that have no AVX-512: networks then run on ATen's
// convolutions.
#include <stdexcept>

#include "convolutions.h"

namespace pnpkit {

namespace {
[[noreturn]] void absent() { throw std::logic_error("own convolutions need AVX-512"); }
}  // namespace

bool has_avx512() { return false; }
bool has_avx512_bf16() { return false; }

void Panels::put(size_t, const float*, int64_t, int64_t) { absent(); }
Conv3x3::Conv3x3(const float*, int64_t, int64_t, bool) : weight_(0, false) { absent(); }
void Conv3x3::run(Image, Size, const Finish&) const { absent(); }
void convolve(Image, Size, const Kernels<const float>&, const Finish&) { absent(); }
void weight_gradient(Image, Image, Size, const Kernels<float>&) { absent(); }
Halve::Halve(const float*, int64_t, int64_t, bool) : weight_(0, false) { absent(); }
void Halve::run(Image, Size, const Finish&) const { absent(); }
Double::Double(const float*, int64_t, int64_t, bool) : weight_(0, false) { absent(); }
void Double::run(Image, Size, const Finish&) const { absent(); }
Head::Head(const float*, int64_t, int64_t) { absent(); }
void Head::run(const float*, Size, const Finish&) const { absent(); }
Tail::Tail(const float*, const float*, int64_t, int64_t) { absent(); }
void Tail::run(Image, Size, float*) const { absent(); }

}  // namespace pnpkit
