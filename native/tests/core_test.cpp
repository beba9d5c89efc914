// What can be said without Python: exact values, adjoints, optimality of prox, own convolutions against ATen's, files.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <cstdio>
#include <cstdlib>

#include "../src/convolutions.h"
#include "pnpkit/solvers.h"
#include "pnpkit/training.h"

using namespace pnpkit;

namespace {

int failures = 0;

void check(bool holds, const std::string& what) {
  if (holds) return;
  ++failures;
  std::printf("FAILED: %s\n", what.c_str());
}

template <class Thrown, class F>
void check_throws(F f, const std::string& what) {
  try {
    f();
  } catch (const Thrown&) {
    return;
  } catch (const std::exception& e) {
    check(false, what + ": threw " + e.what());
    return;
  }
  check(false, what + ": threw nothing");
}

double distance(const Tensor& a, const Tensor& b) {
  return (a - b).abs().max().item<double>() / std::max(1e-30, b.abs().max().item<double>());
}

at::Generator rng() {
  static at::Generator one = at::detail::createCPUGenerator(1);
  return one;
}

Tensor draw(at::IntArrayRef shape, bool complex = false) {
  return at::randn(shape, rng(), complex ? at::kComplexFloat : at::kFloat);
}

Tensors given(std::map<std::string, Tensor> named) {
  return [named](const Json& reference, const std::string&) { return named.at(reference["file"].get<std::string>()); };
}

void convolutions() {
  for (const auto& [in, out, h, w, batch] :
       {std::array{16, 16, 8, 8, 1}, {3, 7, 5, 9, 2}, {48, 32, 17, 13, 1}, {80, 48, 4, 30, 3}, {20, 100, 1, 1, 1}}) {
    const Tensor x = draw({batch, in, h, w}), weight = draw({out, in, 3, 3}) / 3, bias = draw({out});
    const int64_t wide_in = padded(in), wide_out = padded(out);
    const auto nhwc = [&](const Tensor& t, int64_t wide) {
      return at::constant_pad_nd(t.permute({0, 2, 3, 1}), {0, wide - t.size(1)}).contiguous();
    };
    const Tensor image = nhwc(x, wide_in), residual = draw({batch, out, h, w}), added = nhwc(residual, wide_out),
                 shift = at::constant_pad_nd(bias, {0, wide_out - out}).contiguous();
    Tensor plain = at::empty({batch, h, w, wide_out}), active = at::empty_like(plain);
    for (bool half : {false, true}) {
      if (!(half ? has_avx512_bf16() : has_avx512())) continue;
      const Conv3x3 conv(weight.const_data_ptr<float>(), out, in, half);
      Finish f;
      f.shift = shift.const_data_ptr<float>(), f.residual = added.const_data_ptr<float>();
      f.plain = plain.mutable_data_ptr<float>(), f.active.exact = active.mutable_data_ptr<float>();
      Tensor rounded = image.to(at::kBFloat16);
      if (half)
        conv.run({nullptr, reinterpret_cast<uint16_t*>(rounded.data_ptr())}, {batch, h, w}, f);
      else
        conv.run({image.data_ptr<float>(), nullptr}, {batch, h, w}, f);
      const Tensor wanted = at::conv2d(x, weight, bias, 1, 1) + residual;
      const auto what = told("3×3 convolution ", in, " to ", out, " channels, ", h, "×", w, half ? ", bfloat16" : "");
      check(distance(plain.permute({0, 3, 1, 2}).slice(1, 0, out), wanted) < (half ? 3e-2 : 2e-5), what);
      check(distance(active.permute({0, 3, 1, 2}).slice(1, 0, out), at::silu(wanted)) < (half ? 3e-2 : 2e-5),
            what + ", silu");
      check(plain.slice(3, out).abs().sum().item<double>() == 0, what + ", padding stays zero");
    }
  }
}

void gradients() {
  for (const auto& [in, out, h, w, batch] : {std::array{16, 48, 9, 7, 2}, {112, 64, 3, 12, 1}, {16, 16, 1, 2, 3}})
    for (const auto kind : {at::kFloat, at::kBFloat16}) {
      if (!has_convolutions(kind == at::kBFloat16)) continue;
      const auto last = at::MemoryFormat::ChannelsLast;
      const Tensor x = draw({batch, in, h, w}).to(kind), g = draw({batch, out, h, w}).to(kind),
                   weight = draw({out, in, 3, 3}).contiguous(last), bias = draw({out});
      const auto [image, of_weight, of_bias] =
          at::convolution_backward(g.to(at::kFloat), x.to(at::kFloat), weight, at::nullopt, {1, 1}, {1, 1}, {1, 1},
                                   false, {0, 0}, 1, {true, true, false});
      const double limit = kind == at::kFloat ? 2e-5 : 4e-2;
      const auto what = told("training, ", in, " to ", out, " channels, ", kind, ": ");
      const auto near = [&](const Tensor& a, const Tensor& b) { return distance(a.to(at::kFloat), b) < limit; };
      check(near(convolution(x.contiguous(last), weight, bias), at::conv2d(x.to(at::kFloat), weight, bias, 1, 1)),
            what + "result");
      check(near(convolution_image_gradient(g.contiguous(last), weight), image), what + "image");
      check(near(convolution_weight_gradient(x.contiguous(last), g.contiguous(last), weight), of_weight),
            what + "weight");
    }
  const Tensor x = draw({1, 16, 4, 4}), weight = draw({16, 16, 3, 3});
  check_throws<InputError>([&] { convolution(x, weight, {}); }, "an image that is not channels last");
  check_throws<InputError>([&] { convolution(x, draw({16, 20, 3, 3}), {}); }, "20 channels");
}

void operators() {
  const Tensor mask = (at::rand({1, 6, 8}, rng()) < 0.5).to(at::kFloat), kernel = at::rand({1, 3, 4}, rng()),
               maps = draw({3, 6, 8}, true);
  const auto tensors = given({{"mask", mask}, {"kernel", kernel}, {"maps", maps}});
  const Json shape = Json::array({1, 6, 8});
  for (const Json& spec :
       {Json{{"name", "inpainting"}, {"mask", {{"file", "mask"}}}},
        Json{{"name", "blur"}, {"kernel", {{"file", "kernel"}}}, {"shape", shape}},
        Json{{"name", "super_resolution"}, {"kernel", {{"file", "kernel"}}}, {"shape", shape}, {"factor", 2}},
        Json{{"name", "mri"}, {"mask", {{"file", "mask"}}}},
        Json{{"name", "mri"}, {"mask", {{"file", "mask"}}}, {"maps", {{"file", "maps"}}}}}) {
    const auto op = make_operator(spec, tensors);
    Shape in{2}, out{2};
    in.insert(in.end(), op->in_shape.begin(), op->in_shape.end()),
        out.insert(out.end(), op->out_shape.begin(), op->out_shape.end());
    const Tensor x = draw(in, op->complex), y = draw(out, op->complex), tau = at::tensor({0.5f, 20.f});
    op->cg_tol = 1e-7, op->cg_max_iter = 500;
    const auto what = spec["name"].get<std::string>();
    check(distance(overlap(op->forward(x), y), overlap(x, op->adjoint(y))) < 1e-4, what + ": adjoint");
    check(distance(op->normal(x), op->adjoint(op->forward(x))) < 1e-5, what + ": normal");
    const Tensor p = op->prox(x, y, tau), slope = p - x + expand(tau, x) * op->adjoint(op->forward(p) - y);
    check((norm_of(slope) / norm_of(x)).max().item<double>() < 1e-4, what + ": prox is optimal");
    check((norm_of(op->forward(x)) <= 1.02 * op->norm(2) * norm_of(x)).all().item<bool>(), what + ": norm");
  }
  const auto twice = make_operator({{"name", "blur"}, {"kernel", {{"file", "k"}}}, {"shape", {1, 4, 4}}},
                                   given({{"k", at::full({1, 1, 1}, 2.0f)}}));
  check(distance(twice->prox(at::ones({1, 1, 4, 4}), at::full({1, 1, 4, 4}, 6.0f), at::ones({1})),
                 at::full({1, 1, 4, 4}, 13.0f / 5)) < 1e-6,
        "exact prox of 2x");
  check_throws<CapabilityError>([] { make_operator({{"name", "nufft"}}, {}); }, "operator without a twin");
  check_throws<InputError>([] { make_operator({{"nam", "nufft"}}, {}); }, "operator without a name");
}

void files() {
  const Path path = std::filesystem::temp_directory_path() / told("pnpkit_core_test_", std::rand(), ".npy");
  for (const Tensor& array : {draw({2, 3}), draw({4}, true), draw({}), at::zeros({0, 3})}) {
    write_npy(path, array);
    check(at::equal(read_npy(path), array), "npy and back " + shape_text(array.sizes()));
  }
  std::filesystem::remove(path);
  check_throws<InputError>([] { parse_npy("hello, this is no array", "x"); }, "no npy");
  check_throws<InputError>([] { read_npy("/nowhere.npy"); }, "no file");
  check_throws<InputError>([] { parse_json(std::string(100000, '['), "deep"); }, "deep JSON");
  check_throws<InputError>([] { parse_weights("12345678{}", "w"); }, "no weights");
  check_throws<InputError>([] { Package("/nowhere"); }, "no package");
  for (const auto& [text, digits] :
       {std::pair<std::string, const char*>  // FIPS 180-4's examples
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {std::string(1000000, 'a'), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"}})
    check(sha256(text) == digits, "sha256 of " + std::to_string(text.size()) + " bytes");
}

void randomness() {  // torch.randn(3, generator=pnpkit.seeds.stream(0))
  const Tensor three = randn_like(at::zeros({3}), generator(at::kCPU, 0));
  check(distance(three, at::tensor({-0.9976999f, -0.3646774f, -0.8637493f})) < 1e-6, "random numbers are torch's");
}

}  // namespace

int main() {
  convolutions();
  gradients();
  operators();
  files();
  randomness();
  std::printf("%s\n", failures ? "FAILED" : "all passed");
  return failures != 0;
}
