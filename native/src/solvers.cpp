#include "pnpkit/solvers.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <limits>
#include <mutex>

namespace pnpkit {
namespace {

constexpr double NOISIEST = 10.0, CLEANEST = 2e-3, WIDEST = 49.0 / 255;

// The images' range, where the prior has one; else max |x|, (B,).
Tensor width(const Domain& d, const Tensor& x) {
  if (d.range) return at::full({x.size(0)}, *d.range, x.options().dtype(at::kFloat));
  return x.abs().flatten(1).amax(1);
}

Tensor full(const Tensor& like, double value) { return at::full_like(like, value); }

// n values from first to last, equally spaced in their logarithm; last when n = 1.
std::vector<Tensor> log_spaced(const Tensor& first, const Tensor& last, int64_t n) {
  const Tensor fraction = at::linspace(0, 1, n);
  std::vector<Tensor> values;
  for (int64_t k = 0; k + 1 < n; ++k) values.push_back(first * (last / first).pow(fraction[k].item<float>()));
  values.push_back(last);
  return values;
}

Tensor given_or_noise(const Problem& problem, const Domain& d, std::optional<double> sigma) {
  return d.fitted(sigma ? full(problem.noise_level, *sigma) : problem.noise_level);
}

Tensor injected(const Tensor& z, const Tensor& sigma, double share, at::Generator rng) {
  return share == 0 ? z : z + share * expand(sigma, z) * randn_like(z, rng);
}

void check_options(bool fine, const char* solver) {
  if (!fine)
    throw InputError(told(solver, ": n_steps ≥ 1 and at most 100000, sigmas and lam > 0, eta in [0, 1], inject ≥ 0."));
}

bool positive(std::optional<double> v) { return !v || *v > 0; }
bool some(int64_t n) { return n >= 1 && n <= 100000; }

}  // namespace

Tensor randn_like(const Tensor& z, at::Generator rng) {
  if (!z.is_complex()) return at::randn(z.sizes(), rng, z.options());
  auto shape = z.sizes().vec();
  shape.push_back(2);
  return at::view_as_complex(at::randn(shape, rng, z.options().dtype(at::kFloat)));
}

at::Generator generator(at::Device device, uint64_t seed) {
  at::Generator rng =
      device.is_cpu() ? at::detail::createCPUGenerator() : at::globalContext().defaultGenerator(device).clone();
  rng.set_current_seed(seed + 0x5EED5017E5);  // src/pnpkit/seeds.py has the same, and says why
  return rng;
}

Tensor PosteriorSampler::operator()(const Problem& problem, const Unfolding& prior, at::Generator rng,
                                    const Progress& progress) const {
  const at::NoGradGuard guard;
  check_options(some(n_steps) && eta >= 0 && eta <= 1 && positive(sigma_start) && positive(sigma_end),
                "posterior_sampler");
  if (method != "multistep" && method != "ddim" && method != "heun")
    throw InputError(told("posterior_sampler: method '", method.substr(0, 20), "': expected multistep, ddim or heun."));
  if (method == "heun" && eta != 0) throw InputError("posterior_sampler: heun follows the probability flow, eta = 0.");
  const Domain& d = prior.domain;
  d.check(problem.op->in_shape, problem.op->complex);
  Tensor x = problem.initial();

  Tensor size = width(d, x);
  size = at::where(size > 0, size, at::ones_like(size));
  const Tensor high = d.fitted(sigma_start ? full(size, *sigma_start) : NOISIEST * size);
  const Tensor low = at::minimum(d.fitted(sigma_end ? full(size, *sigma_end) : CLEANEST * size), high);
  const Tensor ramp = at::linspace(0, 1, n_steps);
  std::vector<Tensor> levels;
  for (int64_t k = 0; k < n_steps; ++k)
    levels.push_back(
        d.fitted((high.pow(1 / 7.0) + ramp[k].item<float>() * (low.pow(1 / 7.0) - high.pow(1 / 7.0))).pow(7.0)));
  levels.push_back(at::zeros_like(size));

  const auto moved = [&](const Tensor& noisy, const Tensor& clean, const Tensor& now, const Tensor& then) {
    const Tensor fresh = eta * then * (1 - (then / now).square()).sqrt();
    const Tensor keep = (then.square() - fresh.square()).clamp_min(0).sqrt() / now;
    const Tensor next = clean + expand(keep, clean) * (noisy - clean);
    return eta != 0 ? next + expand(fresh, next) * randn_like(next, rng) : next;
  };
  Tensor noisy = x + expand(levels[0], x) * randn_like(x, rng), before;
  const double tiny = std::numeric_limits<float>::min();
  for (int64_t k = 0; k < n_steps; ++k) {
    const Tensor &now = levels[k], &then = levels[k + 1];
    const Tensor clean = prior(noisy, now, problem);
    Tensor ahead = clean;
    if (method == "multistep" && k > 0) {
      const Tensor h = at::where(then > 0, (now / then.clamp_min(tiny)).log(), at::zeros_like(then));
      const Tensor ratio = (h / (levels[k - 1] / now).log().clamp_min(tiny)).clamp_max(1.0);
      ahead = clean + expand(0.5 * ratio, clean) * (clean - before);
    } else if (method == "heun" && k + 1 < n_steps) {
      const Tensor tried = moved(noisy, clean, now, then);
      const Tensor slope = (noisy - clean) / expand(now, clean),
                   end = (tried - prior(tried, then, problem)) / expand(then, clean);
      ahead = noisy - expand(now, clean) * 0.5 * (slope + end);
    }
    noisy = moved(noisy, ahead, now, then);
    before = clean;
    if (progress) progress(k + 1, n_steps);
  }
  return noisy;
}

Tensor HQS::operator()(const Problem& problem, const Denoiser& prior, at::Generator rng,
                       const Progress& progress) const {
  const at::NoGradGuard guard;
  check_options(some(n_steps) && lam > 0 && inject >= 0 && positive(sigma_start) && positive(sigma_end), "hqs");
  prior.domain.check(problem.op->in_shape, problem.op->complex);
  Tensor x = problem.initial();
  const Tensor last = given_or_noise(problem, prior.domain, sigma_end);
  const Tensor widest = sigma_start ? full(last, *sigma_start) : WIDEST * width(prior.domain, x);
  const auto levels = log_spaced(at::maximum(prior.domain.fitted(widest), last), last, n_steps);
  for (int64_t k = 0; k < n_steps; ++k) {
    const Tensor z = problem.prox(x, levels[k].square() / lam);
    x = prior(injected(z, levels[k], inject, rng), levels[k]);
    if (progress) progress(k + 1, n_steps);
  }
  return x;
}

Tensor ADMM::operator()(const Problem& problem, const Denoiser& prior, at::Generator rng,
                        const Progress& progress) const {
  const at::NoGradGuard guard;
  check_options(some(n_steps) && lam > 0 && inject >= 0 && positive(sigma_start) && positive(sigma), "admm");
  prior.domain.check(problem.op->in_shape, problem.op->complex);
  Tensor x = problem.initial(), u = at::zeros_like(x);
  const Tensor last = given_or_noise(problem, prior.domain, sigma);
  std::vector<Tensor> levels{last};
  if (sigma_start) levels = log_spaced(prior.domain.fitted(last.clamp_min(*sigma_start)), last, n_steps);
  for (int64_t k = 0; k < n_steps; ++k) {
    const Tensor level = levels[std::min<size_t>(k, levels.size() - 1)];
    if (sigma_start && k > 0) u = expand((level / levels[k - 1]).square(), u) * u;
    const Tensor v = problem.prox(x - u, level.square() / lam);
    u = u + v;
    x = prior(injected(u, level, inject, rng), level);
    u = u - x;
    if (progress) progress(k + 1, n_steps);
  }
  return x;
}

Solver make_solver(const Json& spec) {
  const Settings s(spec, "solver", nullptr);
  const std::string name = s.text("name");
  if (s.has("tol")) throw CapabilityError("solver.tol: the native loops make all their steps.");
  if (name == "posterior_sampler") {
    s.only({"n_steps", "tol", "eta", "method", "sigma_start", "sigma_end"});
    PosteriorSampler made;
    made.n_steps = s.integer("n_steps", made.n_steps), made.eta = s.number("eta", made.eta);
    if (s.has("method")) made.method = s.text("method");
    made.sigma_start = s.optional_number("sigma_start"), made.sigma_end = s.optional_number("sigma_end");
    return made;
  }
  if (name == "hqs") {
    s.only({"n_steps", "tol", "sigma_start", "sigma_end", "lam", "inject"});
    HQS made;
    made.n_steps = s.integer("n_steps", made.n_steps), made.lam = s.number("lam", made.lam),
    made.inject = s.number("inject", made.inject);
    made.sigma_start = s.optional_number("sigma_start"), made.sigma_end = s.optional_number("sigma_end");
    return made;
  }
  if (name == "admm") {
    s.only({"n_steps", "tol", "penalty", "sigma", "sigma_start", "lam", "inject"});
    ADMM made;
    made.n_steps = s.integer("n_steps", made.n_steps), made.lam = s.number("lam", made.lam),
    made.inject = s.number("inject", made.inject);
    made.sigma = s.optional_number("sigma"), made.sigma_start = s.optional_number("sigma_start");
    return made;
  }
  throw CapabilityError(
      told("solver '", name.substr(0, 40), "' has no native loop. There are: posterior_sampler, hqs, admm."));
}

Prior make_prior(const Weights& weights, Arithmetic arithmetic, at::Device device, bool fused) {
  fused = fused && device.is_cpu();
  if (weights.format == "pnpkit-unfolding-1") {
    Unfolding prior(weights, arithmetic, fused);
    if (!device.is_cpu()) prior.to(device);
    return prior;
  }
  if (weights.format != "pnpkit-unet-1")
    throw CapabilityError(told("Weights of form '", weights.format.substr(0, 40), "' have no native network."));
  Denoiser prior(weights, arithmetic, fused);
  if (!device.is_cpu()) prior.to(device);
  return prior;
}

Prior read_prior(const Path& path, std::optional<Arithmetic> arithmetic, at::Device device, bool fused) {
  if (!std::filesystem::is_directory(path))
    return make_prior(read_weights(path), arithmetic.value_or(Arithmetic::float32), device, fused);
  const Package package(path);
  if (!package.compiled()) {
    const Path weights = package.file(package.network["file"].get<std::string>());
    return make_prior(read_weights(weights), arithmetic.value_or(package.arithmetic()), device, fused);
  }
  if (arithmetic.value_or(package.arithmetic()) != package.arithmetic())
    throw CapabilityError(told(path.string(), " was compiled for ", package.network["dtype"].get<std::string>(),
                               "; export it again for another arithmetic."));
  Denoiser prior(package);
  prior.to(device);
  return prior;
}

Tensor solve(const Problem& problem, const Prior& prior, const Solver& solver, uint64_t seed,
             const Progress& progress) {
  const at::Generator rng = generator(problem.y.device(), seed);
  const Tensor x = std::visit(
      [&](const auto& loop, const auto& one) -> Tensor {
        if constexpr (std::is_invocable_v<decltype(loop), const Problem&, decltype(one), at::Generator,
                                          const Progress&>)
          return loop(problem, one, rng, progress);
        else
          throw CapabilityError(
              "posterior_sampler takes weights of Diff-Unfolding, hqs and admm those of a denoiser; these are the "
              "other kind.");
      },
      solver, prior);
  const Tensor finite = at::isfinite(x.is_complex() ? at::view_as_real(x) : x).flatten(1).all(1);
  if (!finite.any().item<bool>())
    throw DivergedError("Every sample left the finite range. Check the noise level and the scale of the measurement.");
  return x;
}

}  // namespace pnpkit
