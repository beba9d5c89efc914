#include "pnpkit/unet.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <mutex>

#include "convolutions.h"
#include "pnpkit/error.h"
#include "pnpkit/settings.h"

namespace pnpkit {
namespace {

struct Convolution {
  Tensor weight, bias;
};
struct Block {
  Convolution first, second;
  Tensor modulate_weight, modulate_bias;
};
using Stage = std::vector<Block>;

struct FusedBlock {
  Conv3x3 first, second;
};

// The tensors of a file under a prefix; every one is asked for by its shape, and must be there.
struct Reader {
  const Weights& weights;
  std::string prefix;

  Tensor operator()(const std::string& name, at::IntArrayRef shape) const {
    const auto found = weights.tensors.find(prefix + name);
    if (found == weights.tensors.end())
      throw InputError(told("The weights have no tensor '", prefix, name, "'; they are for another architecture."));
    if (found->second.sizes() != shape)
      throw InputError(
          told("The weights' tensor '", prefix, name, "' is (", found->second.sizes(), "), expected (", shape, ")."));
    return found->second.contiguous();
  }
  Convolution convolution(const std::string& name, at::IntArrayRef shape, int64_t out) const {
    return {(*this)(name + ".weight", shape), (*this)(name + ".bias", {out})};
  }
};

Tensor padded_to(const Tensor& values, int64_t n) {
  return at::constant_pad_nd(values, {0, n - values.size(-1)}).contiguous();
}

}  // namespace

struct UNet::Body {
  std::vector<int64_t> widths;
  int64_t channels, conditions;
  Arithmetic arithmetic;
  bool fused;
  Tensor frequencies, embed_weight[2], embed_bias[2];
  Convolution head, tail;
  std::vector<Stage> down, up;
  std::vector<Convolution> halve, twice;
  Stage middle;

  // Own convolutions, and buffers that are kept from call to call.
  std::unique_ptr<Head> fast_head;
  std::unique_ptr<Tail> fast_tail;
  std::vector<std::vector<FusedBlock>> fast_down, fast_up;
  std::vector<FusedBlock> fast_middle;
  std::vector<Halve> fast_halve;
  std::vector<Double> fast_twice;
  struct Activation {  // in bfloat16 where the convolutions are
    Aligned<float> exact;
    Aligned<uint16_t> half;
    Image image() { return half.size() ? Image{nullptr, half.data()} : Image{exact.data(), nullptr}; }
  };
  struct Level {
    Aligned<float> plain;
    Activation active, between;
  };
  struct Workspace {
    std::vector<Level> levels;
    int64_t pixels = 0;
  };
  std::mutex lock;
  std::vector<std::unique_ptr<Workspace>> idle;

  void read(const Json& options, const Reader& reader);
  void pack();
  Tensor run_fused(const Tensor& image, const Tensor& embedding);
  Tensor run_aten(const Tensor& image, const Tensor& embedding) const;
  std::unique_ptr<Workspace> workspace(int64_t pixels);
};

void UNet::Body::read(const Json& options, const Reader& reader) {
  const Settings s(options, "the network's description", nullptr);
  s.only({"channels", "widths", "blocks", "conditions", "attention", "classes", "middle"});
  if (s.flag("attention", false) || s.integer("classes", 0))
    throw CapabilityError("Networks with attention or class labels have no native backend.");
  widths = s.integers("widths");
  channels = s.integer("channels"), conditions = s.integer("conditions", 0);
  const int64_t blocks = s.integer("blocks"), deep = s.integer("middle", blocks), limit = 1 << 12;
  bool fits = !widths.empty() && widths.size() <= 12 && channels >= 1 && channels <= limit && conditions >= 0 &&
              conditions <= limit && blocks >= 1 && blocks <= limit && deep >= 1 && deep <= limit;
  for (int64_t w : widths) fits = fits && w >= 1 && w <= limit;
  if (!fits) throw InputError(told("The network's description is out of range: ", options.dump().substr(0, 200)));

  const int64_t e = 4 * widths[0], features = 32;
  frequencies = 0.5 * at::pow(2.0, at::linspace(0, 6, features / 2));
  embed_weight[0] = reader("embed.0.weight", {e, features}), embed_bias[0] = reader("embed.0.bias", {e});
  embed_weight[1] = reader("embed.2.weight", {e, e}), embed_bias[1] = reader("embed.2.bias", {e});
  head = reader.convolution("head", {widths[0], channels + conditions, 3, 3}, widths[0]);
  tail = reader.convolution("tail", {channels, widths[0], 3, 3}, channels);
  const auto stage = [&](const std::string& name, int64_t width, int64_t n) {
    Stage list;
    for (int64_t k = 0; k < n; ++k) {
      const auto block = told(name, ".blocks.", k, ".");
      list.push_back({reader.convolution(block + "first", {width, width, 3, 3}, width),
                      reader.convolution(block + "second", {width, width, 3, 3}, width),
                      reader(block + "modulate.weight", {2 * width, e}), reader(block + "modulate.bias", {2 * width})});
    }
    return list;
  };
  for (size_t l = 0; l + 1 < widths.size(); ++l) {
    const int64_t fine = widths[l], coarse = widths[l + 1];
    down.push_back(stage(told("down.", 2 * l), fine, blocks));
    halve.push_back(reader.convolution(told("down.", 2 * l + 1), {coarse, fine, 2, 2}, coarse));
    up.push_back(stage(told("up.", 2 * l), fine, blocks));
    twice.push_back(reader.convolution(told("up.", 2 * l + 1), {coarse, fine, 2, 2}, fine));
  }
  middle = stage("middle", widths.back(), deep);
}

void UNet::Body::pack() {
  const bool half = arithmetic == Arithmetic::bfloat16;
  const auto data = [](const Tensor& t) { return t.const_data_ptr<float>(); };
  const auto packed = [&](const Stage& stage, int64_t width) {
    std::vector<FusedBlock> list;
    for (const auto& b : stage)
      list.push_back(
          {Conv3x3(data(b.first.weight), width, width, half), Conv3x3(data(b.second.weight), width, width, half)});
    return list;
  };
  const auto aligned_bias = [](Convolution& c, int64_t width) { c.bias = padded_to(c.bias, padded(width)); };
  const auto prepare = [&](Stage& stage,
                           int64_t width) {  // biases padded to vectors; the weights are packed, and freed
    for (auto& b : stage) {
      aligned_bias(b.first, width), aligned_bias(b.second, width);
      b.first.weight = b.second.weight = Tensor();
    }
  };
  fast_head = std::make_unique<Head>(data(head.weight), widths[0], channels + conditions);
  fast_tail = std::make_unique<Tail>(data(tail.weight), data(tail.bias), channels, widths[0]);
  for (size_t l = 0; l + 1 < widths.size(); ++l) {
    fast_down.push_back(packed(down[l], widths[l]));
    fast_up.push_back(packed(up[l], widths[l]));
    fast_halve.emplace_back(data(halve[l].weight), widths[l + 1], widths[l], half);
    fast_twice.emplace_back(data(twice[l].weight), widths[l + 1], widths[l], half);
    prepare(down[l], widths[l]), prepare(up[l], widths[l]);
    aligned_bias(halve[l], widths[l + 1]), aligned_bias(twice[l], widths[l]);
    halve[l].weight = twice[l].weight = Tensor();
  }
  fast_middle = packed(middle, widths.back());
  prepare(middle, widths.back());
  aligned_bias(head, widths[0]);
}

std::unique_ptr<UNet::Body::Workspace> UNet::Body::workspace(int64_t pixels) {
  {
    const std::lock_guard guard(lock);
    if (!idle.empty() && idle.back()->pixels >= pixels) {
      auto found = std::move(idle.back());
      idle.pop_back();
      return found;
    }
    idle.clear();  // smaller ones are of no use any more
  }
  auto made = std::make_unique<Workspace>();
  made->pixels = pixels;
  for (size_t l = 0; l < widths.size(); ++l) {
    const size_t n = (pixels >> (2 * l)) * padded(widths[l]);
    const bool half = arithmetic == Arithmetic::bfloat16;
    const auto activation = [&] { return Activation{Aligned<float>(half ? 0 : n), Aligned<uint16_t>(half ? n : 0)}; };
    made->levels.push_back({Aligned<float>(n), activation(), activation()});
  }
  return made;
}

Tensor UNet::Body::run_fused(const Tensor& image, const Tensor& embedding) {
  const int64_t batch = image.size(0);
  Size size{batch, image.size(2), image.size(3)};
  auto space = workspace(batch * size.height * size.width);
  const auto at_level = [&](size_t l) { return Size{batch, size.height >> l, size.width >> l}; };

  // What is wanted of a stage: its image as a skip and for the coarser level, for the finer level, or for the tail.
  enum class For { skip, finer, tail };
  const bool half = arithmetic == Arithmetic::bfloat16;
  const auto run = [&](const std::vector<FusedBlock>& fast, const Stage& stage, size_t l, For use) {
    Level& level = space->levels[l];
    const int64_t width = widths[l], wide = padded(width);
    for (size_t k = 0; k < fast.size(); ++k) {
      const Block& b = stage[k];
      // silu((1 + a)·(sums + bias) + b) = silu(scale·sums + shift)
      const Tensor modulation = at::linear(embedding, b.modulate_weight, b.modulate_bias);
      const Tensor scale = padded_to(1 + modulation.slice(1, 0, width), wide);
      const Tensor shift = scale * b.first.bias + padded_to(modulation.slice(1, width), wide);
      Finish first;
      first.scale = scale.const_data_ptr<float>(), first.shift = shift.const_data_ptr<float>(),
      first.active = level.between.image();
      fast[k].first.run(level.active.image(), at_level(l), first);
      const bool last = k + 1 == fast.size();
      Finish second;
      second.shift = b.second.bias.const_data_ptr<float>(), second.residual = level.plain.data();
      if (!last || use == For::skip || (use == For::finer && !half)) second.plain = level.plain.data();
      if (!last || use == For::tail || half) second.active = level.active.image();
      second.silu = !last || use == For::tail;
      fast[k].second.run(level.between.image(), at_level(l), second);
    }
  };
  const auto into = [&](size_t l, const Tensor& bias, bool add) {
    Level& level = space->levels[l];
    Finish f;
    f.shift = bias.const_data_ptr<float>(), f.plain = level.plain.data(), f.active = level.active.image();
    if (add) f.residual = level.plain.data();
    return f;
  };

  // What ``run`` left at a level for the convolution to another.
  const auto left = [&](size_t l) {
    return half ? space->levels[l].active.image() : Image{space->levels[l].plain.data(), nullptr};
  };

  fast_head->run(image.const_data_ptr<float>(), size, into(0, head.bias, false));
  const size_t deepest = widths.size() - 1;
  for (size_t l = 0; l < deepest; ++l) {
    run(fast_down[l], down[l], l, For::skip);
    fast_halve[l].run(left(l), at_level(l), into(l + 1, halve[l].bias, false));
  }
  run(fast_middle, middle, deepest, deepest > 0 ? For::finer : For::tail);
  for (size_t l = deepest; l-- > 0;) {
    fast_twice[l].run(left(l + 1), at_level(l + 1), into(l, twice[l].bias, true));
    run(fast_up[l], up[l], l, l > 0 ? For::finer : For::tail);
  }
  Tensor out = at::empty({batch, channels, size.height, size.width}, at::kFloat);
  fast_tail->run(space->levels[0].active.image(), size, out.mutable_data_ptr<float>());
  const std::lock_guard guard(lock);
  idle.push_back(std::move(space));
  return out;
}

Tensor UNet::Body::run_aten(const Tensor& image, const Tensor& embedding) const {
  const auto kind = arithmetic == Arithmetic::bfloat16 ? at::kBFloat16 : at::kFloat;
  const auto conv = [](const Tensor& x, const Convolution& c) { return at::conv2d(x, c.weight, c.bias, 1, 1); };
  const auto run = [&](Tensor x, const Stage& stage) {
    for (const auto& b : stage) {
      const auto ab =
          at::linear(embedding, b.modulate_weight, b.modulate_bias).unsqueeze(-1).unsqueeze(-1).to(kind).chunk(2, 1);
      const Tensor h = conv(at::silu(x), b.first);
      x = x + conv(at::silu(h * (1 + ab[0]) + ab[1]), b.second);
    }
    return x;
  };
  Tensor x = conv(image.to(kind).contiguous(at::MemoryFormat::ChannelsLast), head);
  std::vector<Tensor> skips;
  for (size_t l = 0; l < down.size(); ++l) {
    skips.push_back(x = run(x, down[l]));
    x = at::conv2d(x, halve[l].weight, halve[l].bias, 2);
  }
  x = run(x, middle);
  for (size_t l = up.size(); l-- > 0;)
    x = run(at::conv_transpose2d(x, twice[l].weight, twice[l].bias, 2) + skips[l], up[l]);
  return conv(at::silu(x), tail).to(at::kFloat).contiguous();
}

UNet::UNet(const Json& options, const Weights& weights, const std::string& prefix, Arithmetic arithmetic, bool fused)
    : body_(std::make_unique<Body>()) {
  const at::NoGradGuard guard;
  body_->read(options, {weights, prefix});
  body_->arithmetic = arithmetic;
  body_->fused = fused && (arithmetic == Arithmetic::float32 ? has_avx512() : has_avx512_bf16());
  if (body_->fused)
    body_->pack();
  else
    to(at::kCPU);
}

UNet::~UNet() = default;
UNet::UNet(UNet&&) noexcept = default;

void UNet::to(at::Device device) {
  Body& b = *body_;
  if (b.fused && device.is_cpu()) return;
  if (b.fused)
    throw CapabilityError(
        "This network was loaded for the CPU; load it for the GPU in the first place (fused = false).");
  const auto kind = b.arithmetic == Arithmetic::bfloat16 ? at::kBFloat16 : at::kFloat;
  const auto move = [&](Convolution& c) {
    c.weight = c.weight.to(device, kind).contiguous(at::MemoryFormat::ChannelsLast);
    c.bias = c.bias.to(device, kind);
  };
  const auto move_stage = [&](Stage& stage) {
    for (auto& block : stage) {
      move(block.first), move(block.second);
      block.modulate_weight = block.modulate_weight.to(device), block.modulate_bias = block.modulate_bias.to(device);
    }
  };
  for (auto* list : {&b.down, &b.up})
    for (auto& stage : *list) move_stage(stage);
  for (auto* list : {&b.halve, &b.twice})
    for (auto& c : *list) move(c);
  move_stage(b.middle), move(b.head), move(b.tail);
  for (auto* t : {&b.frequencies, b.embed_weight, b.embed_weight + 1, b.embed_bias, b.embed_bias + 1})
    *t = t->to(device);
}

int64_t UNet::multiple() const { return int64_t{1} << (body_->widths.size() - 1); }
int64_t UNet::channels() const { return body_->channels; }
int64_t UNet::conditions() const { return body_->conditions; }

std::string UNet::engine() const {
  return told(body_->fused ? "winograd " : "aten ", body_->arithmetic == Arithmetic::bfloat16 ? "bfloat16" : "float32");
}

Tensor UNet::embedding(const Tensor& coordinate) const {
  const Tensor angles = coordinate.unsqueeze(1) * body_->frequencies;
  Tensor e = at::cat({angles.cos(), angles.sin()}, 1);
  for (int k = 0; k < 2; ++k) e = at::silu(at::linear(e, body_->embed_weight[k], body_->embed_bias[k]));
  return e;
}

Tensor UNet::operator()(const Tensor& image, const Tensor& embedding) const {
  const int64_t inputs = body_->channels + body_->conditions, n = multiple();
  if (image.dim() != 4 || image.size(1) != inputs || image.size(0) < 1 || image.size(2) < n || image.size(3) < n ||
      image.size(2) % n || image.size(3) % n || image.scalar_type() != at::kFloat)
    throw InputError(told("The network takes float32 images (B, ", inputs, ", H, W) with H and W multiples of ", n,
                          "; given (", image.sizes(), ")."));
  if (embedding.sizes() != at::IntArrayRef{image.size(0), 4 * body_->widths[0]})
    throw InputError(told("The embedding is (", embedding.sizes(), "), expected (B, ", 4 * body_->widths[0], ")."));
  const at::NoGradGuard guard;
  return body_->fused ? body_->run_fused(image.contiguous(), embedding.contiguous())
                      : body_->run_aten(image, embedding);
}

Tensor Preconditioned::coordinate(const Tensor& level) const { return at::log(level / std) / 4; }

Tensor Preconditioned::operator()(const Tensor& x, const Tensor& level, const Tensor& embedding,
                                  const Tensor& condition) const {
  const Tensor s = level.reshape({-1, 1, 1, 1}), total = s * s + std * std, centred = x - mean;
  const Tensor z = total.rsqrt() * centred;
  const Tensor raw = network(condition.defined() ? at::cat({z, condition}, 1) : z, embedding);
  return mean + std * std / total * centred + s * std * total.rsqrt() * raw;
}

Tensor as_real(const Tensor& x, int64_t multiple) {
  const Tensor parts = x.is_complex() ? at::cat({at::real(x), at::imag(x)}, 1) : x;
  const int64_t h = parts.size(-2), w = parts.size(-1), bottom = (multiple - h % multiple) % multiple,
                right = (multiple - w % multiple) % multiple;
  if (!bottom && !right) return parts;
  return bottom < h && right < w ? at::reflection_pad2d(parts, {0, right, 0, bottom})
                                 : at::replication_pad2d(parts, {0, right, 0, bottom});
}

Tensor as_before(const Tensor& clean, const Tensor& x) {
  const Tensor cropped = clean.slice(-2, 0, x.size(-2)).slice(-1, 0, x.size(-1));
  if (!x.is_complex()) return cropped;
  const auto parts = cropped.chunk(2, 1);
  return at::complex(parts[0].contiguous(), parts[1].contiguous());
}

}  // namespace pnpkit
