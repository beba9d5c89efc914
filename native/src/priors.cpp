#include "pnpkit/priors.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

namespace pnpkit {
namespace {

constexpr int64_t HIDDEN = 32;

Settings described(const Weights& weights, const char* format) {
  if (weights.format != format)
    throw InputError(told("The weights are of form '", weights.format.substr(0, 40), "', expected '", format, "'."));
  return Settings(weights.network, "the network's description", nullptr);
}

double positive(const Settings& s, const char* key) {
  const double value = s.number(key, NAN);
  if (!(value > 0)) throw InputError(told(s.where(), ": '", key, "' must be > 0."));
  return value;
}

Domain domain_of(const Json& network, int64_t channels, bool complex) {
  const Json range = network.value("sigma_range", Json());
  if (!range.is_array() || range.size() != 2 || !range[0].is_number() || !range[1].is_number())
    throw InputError("The weights do not say for which noise levels they were trained.");
  Domain d{complex ? 1 : channels, complex, range[0], range[1], std::nullopt};
  if (!(d.low > 0 && d.low <= d.high)) throw InputError("The weights' range of noise levels is damaged.");
  if (!complex) d.range = 1.0;
  return d;
}

// Of the range of values that a package tells.
std::optional<double> width_of(const Json& network) {
  const Json values = network.value("value_range", Json());
  if (values.is_null()) return std::nullopt;
  if (!values.is_array() || values.size() != 2 || !values[0].is_number() || !values[1].is_number())
    throw InputError("package.json: the images' value_range is damaged; export it again.");
  return values[1].get<double>() - values[0].get<double>();
}

void check_sigma(const Domain& d, const Tensor& x, const Tensor& sigma) {
  if (sigma.dim() != 1 || sigma.size(0) != x.size(0))
    throw InputError(told("sigma is ", shape_text(sigma.sizes()), ", expected one per image."));
  if (!at::logical_and(sigma >= d.low * (1 - 1e-6), sigma <= d.high * (1 + 1e-6)).all().item<bool>())
    throw CapabilityError(told("sigma ", sigma.min().item<float>(), " to ", sigma.max().item<float>(),
                               " is outside the range [", d.low, ", ", d.high, "] of the weights."));
}

Tensor tensor_of(const Weights& weights, const std::string& name, at::IntArrayRef shape) {
  const auto found = weights.tensors.find(name);
  if (found == weights.tensors.end() || found->second.sizes() != shape)
    throw InputError(told("The weights have no tensor '", name, "' of (", shape, ")."));
  return found->second;
}

// Noise levels to begin and to end with (stages.ends).
std::pair<Tensor, Tensor> ends(const Tensor& sigma, const Tensor& noise, double width) {
  const Tensor first = (sigma.pow(-2) + std::pow(width, -2)).pow(-0.5);
  return {first, (first.pow(-2) + noise.pow(-2)).pow(-0.5)};
}

}  // namespace

void Domain::check(const Shape& in_shape, bool complex_images) const {
  if (complex_images != complex || in_shape.size() != 3 || in_shape[0] != channels)
    throw CapabilityError(told("The prior works on ", complex ? "complex" : "real", " images (", channels,
                               ", H, W), the operator on ", complex_images ? "complex" : "real", " images ",
                               shape_text(in_shape), "."));
}

Denoiser::Denoiser(const Weights& weights, Arithmetic arithmetic, bool fused)
    : domain([&] {
        const auto s = described(weights, "pnpkit-unet-1");
        return domain_of(weights.network, s.integer("channels"), s.flag("complex", false));
      }()),
      net_([&] {
        const auto s = described(weights, "pnpkit-unet-1");
        Json options = weights.network;
        for (const char* own : {"mean", "std", "complex", "sigma_range"}) options.erase(own);
        return Preconditioned{UNet(options, weights, "", arithmetic, fused), s.number("mean", 0), positive(s, "std")};
      }()) {}

Denoiser::Denoiser(const Package& package)
    : domain([&] {
        const Settings s(package.network, "package.json: network", nullptr);
        if (!package.compiled())
          throw InputError(told(package.folder.string(), " holds weights; read them with read_weights."));
        Domain d = domain_of(package.network, s.integer("channels"), false);
        d.range = width_of(package.network);
        return d;
      }()),
      net_(Compiled(package)) {}

Tensor Denoiser::operator()(const Tensor& x, const Tensor& sigma) const {
  const at::NoGradGuard guard;
  check_sigma(domain, x, sigma);
  if (const auto* compiled = std::get_if<Compiled>(&net_)) return (*compiled)(x, sigma);
  const auto& net = std::get<Preconditioned>(net_);
  const Tensor e = net.network.embedding(net.coordinate(sigma));
  return as_before(net(as_real(x, net.network.multiple()), sigma, e, Tensor()), x);
}

void Denoiser::to(at::Device device) {
  if (auto* net = std::get_if<Preconditioned>(&net_))
    net->network.to(device);
  else if (!device.is_cpu())
    throw CapabilityError("A compiled network runs on the CPU that it was compiled for.");
}

std::string Denoiser::engine() const {
  if (const auto* compiled = std::get_if<Compiled>(&net_)) return compiled->engine();
  return std::get<Preconditioned>(net_).network.engine();
}

Unfolding::Unfolding(const Weights& weights, Arithmetic arithmetic, bool fused) {
  const at::NoGradGuard guard;
  const auto s = described(weights, "pnpkit-unfolding-1");
  s.only({"unet", "mean", "std", "stages", "shared", "dual", "anchor", "data_step", "complex", "sees_change",
          "sigma_range"});
  mean_ = s.number("mean", 0), std_ = positive(s, "std"), stages_ = s.integer("stages");
  if (stages_ < 1 || stages_ > 1000) throw InputError(told("stages must be 1 to 1000, given ", stages_, "."));
  dual_ = s.flag("dual", true), anchor_ = s.flag("anchor", true), complex_ = s.flag("complex", false),
  sees_change_ = s.flag("sees_change", false);
  const std::string step = s.has("data_step") ? s.text("data_step") : "prox";
  if (step != "prox" && step != "gradient")
    throw InputError(told("data_step '", step.substr(0, 20), "': expected prox or gradient."));
  gradient_ = step == "gradient";
  const Json unet = weights.network.value("unet", Json());
  for (int64_t k = 0; k < (s.flag("shared", true) ? 1 : stages_); ++k)
    blocks_.push_back({UNet(unet, weights, told("blocks.", k, ".network."), arithmetic, fused), mean_, std_});
  const int64_t e = blocks_[0].network.embedding(at::zeros({1})).size(1), c = blocks_[0].network.channels();
  stage_ = tensor_of(weights, "stage.weight", {stages_, e});
  time_weight_ = tensor_of(weights, "time.weight", {e, 2}), time_bias_ = tensor_of(weights, "time.bias", {e});
  steer_weight_[0] = tensor_of(weights, "steer.0.weight", {HIDDEN, 2}),
  steer_bias_[0] = tensor_of(weights, "steer.0.bias", {HIDDEN});
  steer_weight_[1] = tensor_of(weights, "steer.2.weight", {4 * stages_, HIDDEN}),
  steer_bias_[1] = tensor_of(weights, "steer.2.bias", {4 * stages_});
  domain = domain_of(weights.network, c, complex_);
}

void Unfolding::to(at::Device device) {
  for (auto& b : blocks_) b.network.to(device);
  for (auto* t : {&stage_, &time_weight_, &time_bias_, steer_weight_, steer_weight_ + 1, steer_bias_, steer_bias_ + 1})
    *t = t->to(device);
}

std::vector<Unfolding::Steer> Unfolding::controls(const Tensor& seen, const Tensor& sigma, const Tensor& noise) const {
  const auto [first, last] = ends(sigma, noise, std_);
  const Tensor hidden = at::silu(at::linear(seen, steer_weight_[0], steer_bias_[0]));
  const Tensor all = at::linear(hidden, steer_weight_[1], steer_bias_[1]).reshape({-1, 4, stages_});
  std::vector<Steer> steers;
  for (int64_t k = 0; k < stages_; ++k) {
    const auto one = [&](int64_t which) { return all.select(1, which).select(1, k); };
    const double way = (static_cast<double>(k) + 0.5) / static_cast<double>(stages_);
    steers.push_back({first * (last / first).pow(way) * one(0).exp(), one(1).exp(),
                      dual_ ? 2 * one(2).sigmoid() : at::zeros_like(sigma), 2 * one(3).sigmoid()});
  }
  return steers;
}

// stages.unfold and UnfoldingNetwork.forward of the Python package, step by step.
Tensor Unfolding::operator()(const Tensor& x, const Tensor& sigma, const Problem& problem) const {
  const at::NoGradGuard guard;
  domain.check(problem.op->in_shape, problem.op->complex);
  check_sigma(domain, x, sigma);
  if (x.sizes() != problem.image_shape())
    throw InputError(
        told("x is ", shape_text(x.sizes()), ", the problem's images are ", shape_text(problem.image_shape()), "."));
  const auto [first, last] = ends(sigma, problem.noise_level, std_);
  const Tensor seen = (at::stack({first.log(), last.log()}, 1) - std::log(std_)) / 2;
  const Tensor time = at::linear(seen, time_weight_, time_bias_);
  const Tensor pull = anchor_ ? sigma.pow(-2) : at::zeros_like(sigma);
  Tensor x0 = at::full_like(x, mean_), u = at::zeros_like(x);
  const auto steers = controls(seen, sigma, problem.noise_level);
  for (int64_t k = 0; k < stages_; ++k) {
    const Steer& steer = steers[k];
    const Preconditioned& block = blocks_[k % blocks_.size()];
    const Tensor near = x0 - u;
    Tensor v;
    if (gradient_) {
      const Tensor slope = problem.grad(near) + expand(pull, x) * (near - x);
      v = near - expand(steer.step / (problem.lipschitz + pull), x) * slope;
    } else {
      const Tensor weight = steer.lam / steer.level.square(), total = pull + weight;
      v = problem.prox(expand(pull / total, x) * x + expand(weight / total, x) * near, 1 / total);
    }
    const int64_t n = block.network.multiple();
    Tensor condition;
    if (sees_change_)
      condition = (steer.level.square() + std_ * std_).rsqrt().reshape({-1, 1, 1, 1}) * as_real(v - near, n);
    const Tensor e = block.network.embedding(block.coordinate(steer.level)) + stage_[k] + time;
    const Tensor sum = v + u;
    x0 = as_before(block(as_real(sum, n), steer.level, e, condition), x);
    u = u + expand(steer.keep, x) * (v - x0);
  }
  return x0;
}

}  // namespace pnpkit
