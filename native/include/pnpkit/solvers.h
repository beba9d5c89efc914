// The loops: reverse diffusion with a posterior denoiser, and half-quadratic splitting or ADMM with a denoiser.
//
// Parameters, defaults and random numbers are those of the Python solvers of the same names: one seed, one result.
#pragma once

#include <ATen/core/Generator.h>

#include <functional>
#include <optional>
#include <string>
#include <variant>

#include "pnpkit/priors.h"

namespace pnpkit {

using Progress = std::function<void(int64_t done, int64_t of)>;
using Prior = std::variant<Denoiser, Unfolding>;

struct PosteriorSampler {
  int64_t n_steps = 10;
  double eta = 0;                    // share of fresh noise
  std::string method = "multistep";  // or "ddim", "heun"
  std::optional<double> sigma_start, sigma_end;

  Tensor operator()(const Problem& problem, const Unfolding& prior, at::Generator rng,
                    const Progress& progress = {}) const;
};

struct HQS {
  int64_t n_steps = 8;
  std::optional<double> sigma_start, sigma_end;
  double lam = 0.23, inject = 0;

  Tensor operator()(const Problem& problem, const Denoiser& prior, at::Generator rng,
                    const Progress& progress = {}) const;
};

struct ADMM {
  int64_t n_steps = 50;
  std::optional<double> sigma, sigma_start;
  double lam = 0.23, inject = 0;

  Tensor operator()(const Problem& problem, const Denoiser& prior, at::Generator rng,
                    const Progress& progress = {}) const;
};

using Solver = std::variant<PosteriorSampler, HQS, ADMM>;

// {"name": "posterior_sampler" | "hqs" | "admm", …}
Solver make_solver(const Json& spec);

// The prior in a file of `pnpkit train`, on a device.
Prior make_prior(const Weights& weights, Arithmetic arithmetic, at::Device device, bool fused = true);
// The same, or the prior in a folder of `pnpkit native export`, in the arithmetic that it was exported for unless
// given.
Prior read_prior(const Path& path, std::optional<Arithmetic> arithmetic, at::Device device, bool fused = true);

// The solver on a prior that it takes; CapabilityError for another one, DivergedError when nothing finite is left.
Tensor solve(const Problem& problem, const Prior& prior, const Solver& solver, uint64_t seed,
             const Progress& progress = {});

// Standard normal in each real component, from ``rng``, like ``z``: as Python's randn_like.
Tensor randn_like(const Tensor& z, at::Generator rng);
// What a seed stands for in solvers, as src/pnpkit/seeds.py has it.
at::Generator generator(at::Device device, uint64_t seed);

}  // namespace pnpkit
