// Trained priors: a denoiser, and Diff-Unfolding's posterior denoiser.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "pnpkit/package.h"
#include "pnpkit/problem.h"
#include "pnpkit/unet.h"

namespace pnpkit {

// Which images a prior takes, as in Python.
struct Domain {
  int64_t channels;
  bool complex;
  double low, high;             // noise levels
  std::optional<double> range;  // width of the images' values; none for complex ones

  void check(const Shape& in_shape, bool complex_images) const;
  Tensor fitted(const Tensor& sigma) const { return sigma.clamp(low, high); }
};

// D(x, sigma) = E[x0 | x0 + sigma·n = x]; weights of form "pnpkit-unet-1", or a network of any kind that was compiled.
class Denoiser {
 public:
  Denoiser(const Weights& weights, Arithmetic arithmetic, bool fused = true);
  explicit Denoiser(const Package& package);
  // x (B, C, H, W), sigma (B,).
  Tensor operator()(const Tensor& x, const Tensor& sigma) const;
  Domain domain;
  void to(at::Device device);
  std::string engine() const;

 private:
  std::variant<Preconditioned, Compiled> net_;
};

// E[x0 | x0 + sigma·n = x, y]; weights of form "pnpkit-unfolding-1". The problem is an argument of every call.
class Unfolding {
 public:
  Unfolding(const Weights& weights, Arithmetic arithmetic, bool fused = true);
  Tensor operator()(const Tensor& x, const Tensor& sigma, const Problem& problem) const;
  Domain domain;
  void to(at::Device device);
  const UNet& network(size_t k) const { return blocks_[k % blocks_.size()].network; }
  std::string engine() const { return blocks_[0].network.engine(); }

 private:
  struct Steer {
    Tensor level, lam, keep, step;
  };  // of one stage, (B,) each
  std::vector<Steer> controls(const Tensor& seen, const Tensor& sigma, const Tensor& noise) const;

  double mean_, std_;
  int64_t stages_;
  bool dual_, anchor_, complex_, sees_change_, gradient_;
  std::vector<Preconditioned> blocks_;
  Tensor stage_, time_weight_, time_bias_, steer_weight_[2], steer_bias_[2];
};

}  // namespace pnpkit
