"""Wrong denoisers, proximable priors and likelihoods."""

import torch

from pnpkit.likelihoods import Gaussian
from pnpkit.linalg import expand

from ..operators.toys_contracts import GaussianImages, GaussianPosterior, Ridge, SoftThreshold
from .registry import caught_by

# --- priors ---


@caught_by("sigma_matters", "wiener_on_gaussian_data")
class DenoiserIgnoresSigma(GaussianImages):
    def _denoise(self, x, sigma):
        return super()._denoise(x, torch.full_like(sigma, 0.1))


@caught_by("sigma_forms", "denoiser_batch_independence")
class OneSigmaForAll(GaussianImages):
    def _denoise(self, x, sigma):
        return super()._denoise(x, sigma.mean().expand_as(sigma))


@caught_by("wiener_on_gaussian_data")
class SigmaTakenForVariance(GaussianImages):
    def _denoise(self, x, sigma):
        return super()._denoise(x, sigma.sqrt())


@caught_by("wiener_on_gaussian_data")
class DropsTheMean(GaussianImages):
    """The missing (1 − c)·x term: right for zero-mean images only."""

    def _denoise(self, x, sigma):
        return self.std**2 * x / (self.std**2 + expand(sigma**2, x))


@caught_by("denoiser_input_not_mutated")
class DenoisesInPlace(GaussianImages):
    def _denoise(self, x, sigma):
        return x.copy_(super()._denoise(x, sigma))


@caught_by("global_rng_untouched", "calls_leave_no_trace")
class DropoutLeftOn(GaussianImages):
    def _denoise(self, x, sigma):
        return torch.nn.functional.dropout(super()._denoise(x, sigma), 0.1, training=True)


@caught_by("denoiser_batch_independence")
class BatchNormLeftOn(GaussianImages):
    def _denoise(self, x, sigma):
        d = super()._denoise(x, sigma)
        return d + 0.01 * (d - d.mean(0))


@caught_by("reduces_noise")
class EpsilonTakenForImage(GaussianImages):
    """A network that predicts the noise, not adapted."""

    def _denoise(self, x, sigma):
        return (x - super()._denoise(x, sigma)) / expand(sigma, x)


@caught_by("near_identity_at_smallest_sigma")
class WrongValueRange(GaussianImages):
    def _denoise(self, x, sigma):
        return super()._denoise(x, sigma).clamp(0, 0.1)


@caught_by("denoiser_gradient")
class DenoiserDetaches(GaussianImages):
    @torch.no_grad()
    def _denoise(self, x, sigma):
        return super()._denoise(x, sigma)


@caught_by("posterior_mean_on_gaussian_data")
class PosteriorForgetsThePrior(GaussianPosterior):
    def _posterior_denoise(self, x, sigma, problem):
        return problem.prox(x, sigma**2)


@caught_by("posterior_uses_the_data", "posterior_mean_on_gaussian_data")
class PosteriorIgnoresTheData(GaussianPosterior):
    def _posterior_denoise(self, x, sigma, problem):
        return GaussianImages(mean=self.mean, std=self.std).to(x.dtype)(x, sigma)


@caught_by("prox_uses_weight", "prox_beats_perturbations")
class PriorProxIgnoresItsWeight(SoftThreshold):
    def _prox(self, z, tau):
        return z.sgn() * (z.abs() - expand(tau, z)).clamp_min(0)


@caught_by("prox_uses_tau", "prox_beats_perturbations")
class PriorProxIgnoresTau(SoftThreshold):
    def _prox(self, z, tau):
        return super()._prox(z, torch.full_like(tau, 0.1))


@caught_by("prox_beats_perturbations")
class ThresholdOffByFivePercent(SoftThreshold):
    def _prox(self, z, tau):
        return super()._prox(z, 1.05 * tau)


@caught_by("prox_beats_perturbations")
class ValueWithoutItsHalf(Ridge):
    def _value(self, x):
        return 2 * super()._value(x)


@caught_by("prox_firmly_nonexpansive")
class HardThreshold(SoftThreshold):
    def _prox(self, z, tau):
        return torch.where(z.abs() > self.weight * expand(tau, z), z, torch.zeros_like(z))


@caught_by("prox_tau_forms")
class ThresholdRelativeToTheBatch(SoftThreshold):
    def _prox(self, z, tau):
        return super()._prox(z, tau * z.abs().max())


@caught_by("prox_limit_of_small_steps")
class ProxShrinksAtZeroStep(Ridge):
    def _prox(self, z, tau):
        return 0.99 * super()._prox(z, tau)


@caught_by("terms")
class TermsDoNotAddUp(SoftThreshold):
    def terms(self, shape, dtype):
        return ((None, self), (None, self))


# --- likelihoods ---


@caught_by("likelihood_samples")
class NoiseDividedByRootTwo(Gaussian):
    def sample(self, z, rng):
        return z + (super().sample(z, rng) - z) / 2**0.5


@caught_by("likelihood_samples")
class BiasedNoise(Gaussian):
    def sample(self, z, rng):
        return super().sample(z, rng) + 0.1 * self.std(z)


@caught_by("likelihood_gradient")
class GradientWithoutSigma(Gaussian):
    def grad(self, z, y):
        return z - y


@caught_by("likelihood_generator", "global_rng_untouched")
class NoiseFromTheGlobalGenerator(Gaussian):
    def sample(self, z, rng):
        return z + self.std(z) * torch.randn_like(z)

    def nll(self, z, y):
        torch.rand(1)
        return super().nll(z, y)


@caught_by("likelihood_scaled")
class SigmaDoesNotScale(Gaussian):
    def scaled(self, c):
        return self
