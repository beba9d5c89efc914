"""Wrong implementations, and the named check that catches each. The correct twins pass everything.

A conformance suite is worth what it rejects: every entry is a mistake that was made in some published
code (PEERS section E and the list in issue 2), planted into a component that is otherwise correct.
"""

import random
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest
import torch
from pydantic import PositiveFloat, PositiveInt

from pnpkit import linalg
from pnpkit.likelihoods import Gaussian
from pnpkit.linalg import expand, norm
from pnpkit.operators.base import LinearOperator
from pnpkit.operators.gram import Gram
from pnpkit.testing import run_checks

from .operators.toys_contracts import (
    Coils,
    Dense,
    Filter,
    GaussianImages,
    GaussianPosterior,
    Ridge,
    RunningSum,
    Saturation,
    SoftThreshold,
    rng,
)
from .toys_solvers import DirectSampler, HalfQuadratic, Iterate, Landweber, ProximalGradient

BUGS: list[tuple[type, str]] = []


def caught_by(*checks: str):
    """Register a wrong class with the checks that must reject it."""

    def register(cls: type) -> type:
        BUGS.extend((cls, name) for name in checks)
        return cls

    return register


# --- operators: the map and its adjoint ---


@caught_by("adjoint", "vjp_is_autograd", "dense_adjoint")
class AdjointOffByOnePercent(Coils):
    def _adjoint(self, y):
        return 1.01 * super()._adjoint(y)


@caught_by("adjoint", "vjp_is_autograd", "dense_adjoint")
class ConjugationMissing(Coils):
    def _adjoint(self, y):
        return (self.maps * torch.fft.ifft2(self.mask * y, norm="ortho")).sum(-3, keepdim=True)


@caught_by("adjoint", "dense_adjoint")
class ImaginaryPartOfTheAdjointOnly(Coils):
    """Right for real data, so a test with real inner products of one kind might pass it."""

    def _adjoint(self, y):
        x = super()._adjoint(y)
        return torch.complex(x.real, x.imag + 1e-3 * x.real)


@caught_by("adjoint", "dense_adjoint")
class AdjointShiftedByOnePixel(Filter):
    def _adjoint(self, y):
        return super()._adjoint(y).roll(1, -1)


@caught_by("adjoint", "dense_adjoint")
class AdjointWrongAtTheBorder(RunningSum):
    def _adjoint(self, y):
        x = super()._adjoint(y)
        return torch.cat([x[..., :-1], 0.5 * x[..., -1:]], -1)


@caught_by("adjoint_is_differentiable")
class DetachedAdjoint(Filter):
    def _adjoint(self, y):
        return super()._adjoint(y.detach())


@caught_by("linearity")
class HiddenClamp(Filter):
    def _forward(self, x):
        return super()._forward(x.clamp(-1, 1))


@caught_by("linearity")
class HiddenThreshold(Filter):
    def _forward(self, x):
        return super()._forward(torch.where(x.abs() < 1e-4, torch.zeros_like(x), x))


@caught_by("linearity", "batch_independence")
class AffineOffset(Filter):
    def _forward(self, x):
        return super()._forward(x) + 1e-3 * x.abs().max()


@caught_by("linearity")
class CastToFloat32(Dense):
    def _forward(self, x):
        return super()._forward(x.float().to(x.dtype))


@caught_by("dtype_moves")
class AnswersInFloat32(RunningSum):
    def _forward(self, x):
        return super()._forward(x).float()


@caught_by("strides_do_not_matter")
class ReadsRawMemory(Dense):
    def _forward(self, x):
        flat = torch.as_strided(x, (x.shape[0], 12), (12, 1))
        return (self.entries @ flat.unsqueeze(-1)).squeeze(-1)


# --- operators: batches, state, randomness ---


@caught_by("batch_independence")
class BatchLeak(Filter):
    def _forward(self, x):
        return super()._forward(x) + 1e-3 * x.mean(0, keepdim=True)


@caught_by("batch_independence")
class NormalisesByTheBatch(Saturation):
    def _forward(self, x):
        return self.gain * x / (x.abs().max() + 1)


@caught_by("input_not_mutated")
class WritesIntoTheInput(Filter):
    def _forward(self, x):
        y = super()._forward(x)
        with torch.no_grad():
            x *= 0.5
        return y


@caught_by("input_not_mutated")
class ProxWritesIntoZ(Filter):
    def _prox_l2(self, z, y, tau):
        x = super()._prox_l2(z, y, tau)
        z.copy_(x)
        return x


@caught_by("output_is_new")
class ReturnsAView(Filter):
    def _forward(self, x):
        return x

    def _adjoint(self, y):
        return y


@caught_by("calls_leave_no_trace")
class KeepsTheLastInput(Filter):
    def _forward(self, x):
        self.last = x
        return super()._forward(x)


@caught_by("calls_leave_no_trace")
class CountsInABuffer(Filter):
    def __init__(self, kernel: torch.Tensor):
        super().__init__(kernel)
        self.register_buffer("calls", torch.zeros(1))

    def _forward(self, x):
        self.calls += 1
        return super()._forward(x)


@caught_by("calls_leave_no_trace")
class WarmStartsFromTheLastCall(Dense):
    def _solve(self, normal, b, what):
        start = getattr(self, "_last", None)
        x, _ = linalg.cg(normal, b, x0=start if start is not None and start.shape == b.shape else None, tol=1e-5)
        self._last = x
        return x


@caught_by("global_rng_untouched")
class GlobalRandomness(Filter):
    def _forward(self, x):
        return super()._forward(x) + 1e-9 * torch.randn_like(x)


@caught_by("global_rng_untouched")
class ReseedsTheGlobalGenerator(Filter):
    def _adjoint(self, y):
        np.random.seed(0)
        random.seed(0)
        return super()._adjoint(y)


@caught_by("works_without_grad", "vjp_is_autograd")
class SwitchesGradientsOff(Filter):
    def _forward(self, x):
        torch.set_grad_enabled(False)
        y = super()._forward(x)
        torch.set_grad_enabled(True)
        return y


# --- operators: solves and claims ---


@caught_by("prox_optimality", "composition_with_identity", "stack")
class WrongProx(Filter):
    def _prox_l2(self, z, y, tau):
        return super()._prox_l2(z, y, 1.05 * tau)


@caught_by("prox_optimality", "prox_step_forms")
class ProxIgnoresItsWeight(Filter):
    def _prox_l2(self, z, y, tau):
        return super()._prox_l2(z, y, 1.0)


@caught_by("prox_optimality", "prox_is_differentiable")
class ProxIgnoresTheData(Dense):
    def _prox_l2(self, z, y, tau):
        return super()._prox_l2(z, self._forward(z), tau)


@caught_by("prox_step_forms", "batch_independence", "prox_optimality")
class OneTauForTheWholeBatch(Filter):
    def _prox_l2(self, z, y, tau):
        return super()._prox_l2(z, y, float(torch.as_tensor(tau).mean()))


@caught_by("data_scale")
class AbsoluteToleranceCG(Dense):
    def _solve(self, normal, b, what):
        x, r = torch.zeros_like(b), b.clone()
        p, rr = r, linalg.inner(b, b)
        for _ in range(200):
            if float(rr.max()) < 1e-8:
                break
            q = normal(p)
            step = rr / linalg.inner(p, q).clamp_min(1e-30)
            x, r = x + expand(step, x) * p, r - expand(step, r) * q
            new = linalg.inner(r, r)
            p, rr = r + expand(new / rr.clamp_min(1e-30), p) * p, new
        return x


@caught_by("batch_independence")
class CGStopsWithTheBatch(Dense):
    """One residual norm for the whole batch: small samples are never solved."""

    def _solve(self, normal, b, what):
        x, r, p = torch.zeros_like(b), b.clone(), b.clone()
        total = (r * r).sum()
        stop = 1e-10 * total
        for _ in range(200):
            if total < stop:
                break
            q = normal(p)
            step = total / (p * q).sum()
            x, r = x + step * p, r - step * q
            new = (r * r).sum()
            p, total = r + new / total * p, new
        return x


@caught_by("pinv")
class PseudoInverseIsTheAdjoint(Dense):
    def _pinv(self, y):
        return self._adjoint(y)


@caught_by("pinv")
class NotTheMinimumNorm(Dense):
    def _pinv(self, y):
        x = super()._pinv(y)
        ones = torch.ones_like(x)
        return x + 0.1 * (ones - super()._pinv(self._forward(ones)))


@caught_by("norm", "operator_scale")
class AbsolutePowerIteration(Filter):
    """Stops on an absolute change, from a scale where that is met at once."""

    def _norm(self):
        v = torch.randn((1, *self.in_shape), dtype=self.dtype, generator=rng())
        v, old = v / norm(v), torch.zeros(())
        for _ in range(100):
            w = self._normal(v)
            new = norm(w)[0]
            v = w / new
            if abs(new - old) < 1e-3:
                break
            old = new
        return new.sqrt()

    @classmethod
    def example(cls):
        return cls(kernel=1e-2 * super().example().kernel)


@caught_by("norm")
class NormTwiceTooLarge(Dense):
    def _norm(self):
        return 2 * super()._norm()


@caught_by("norm")
class NormSquared(Filter):
    def _norm(self):
        return super()._norm() ** 2


@caught_by("structure_claims", "normal")
class GramClaimWrong(Filter):
    def diagonal(self):
        return Gram.of("fourier2", torch.fft.fft2(self.kernel.flip(-1)).abs() ** 2, rank=3)


@caught_by("structure_claims", "pull_and_push")
class GramWithoutItsBatchAxis(Filter):
    """A (C, H, W) diagonal where (1, C, H, W) belongs broadcasts today and mixes samples tomorrow."""

    def diagonal(self):
        return Gram("fourier2", torch.fft.fft2(self.kernel).reshape(self.in_shape)[:, None])


@caught_by("pull_and_push")
class PullIgnoresItsArgument(Filter):
    def _pull(self, g):
        return self.diagonal().abs2()


# --- operators: parameters ---


@caught_by("theta_gradients")
class DetachedTheta(Filter):
    def _otf(self):
        return torch.fft.rfft2(self.kernel.detach())


@caught_by("theta_gradients")
class ThetaDetachedInTheAdjointOnly(Filter):
    def _adjoint(self, y):
        return torch.fft.irfft2(torch.fft.rfft2(y) * torch.fft.rfft2(self.kernel.detach()).conj(), s=y.shape[-2:])


@caught_by("per_sample_theta")
class PerSampleThetaLandsOnChannels(LinearOperator):
    """weight (C,) meant one number per channel; (B, C) with a missing reshape lands on rows and columns."""

    theta = {"weight": 1}
    linear_in = ("weight",)

    def __init__(self, weight: torch.Tensor):
        super().__init__((3, 3, 3))
        self.hold(weight=weight)

    def _forward(self, x):
        return x * self.weight.reshape(-1, 1, 1) if self.weight.ndim == 1 else x * self.weight[..., None]

    def _adjoint(self, y):
        return self._forward(y)

    @classmethod
    def example(cls):
        return cls(weight=torch.tensor([0.5, 1.0, 2.0]))


@caught_by("per_sample_theta")
class UsesTheFirstThetaForAll(Filter):
    """Several physics in one batch silently used only the first."""

    def _otf(self):
        return torch.fft.rfft2(self.kernel[:1] if self.kernel.ndim == 4 else self.kernel)


@caught_by("at", "load_state_dict")
class CacheSurvivesAt(Filter):
    """Cached outside ``derived``, so a copy carries it along."""

    def _forward(self, x):
        return torch.fft.irfft2(torch.fft.rfft2(x) * self._cached_otf, s=x.shape[-2:])

    @cached_property
    def _cached_otf(self):
        return torch.fft.rfft2(self.kernel)


@caught_by("load_state_dict")
class ParameterNotInTheStateDict(Filter):
    def __init__(self, kernel: torch.Tensor):
        super().__init__(kernel)
        self.register_buffer("kernel", kernel.clone(), persistent=False)


@caught_by("state_dict_complete")
class WeightOutsideTheStateDict(Dense):
    def __init__(self, entries: torch.Tensor, shape: tuple[int, ...], gain: torch.Tensor):
        super().__init__(entries, shape)
        self.gain = gain.clone()

    def _forward(self, x):
        return super()._forward(x) * self.gain.to(x.dtype)

    @classmethod
    def example(cls):
        plain = Dense.example()
        return cls(entries=plain.entries, shape=plain.shape, gain=torch.tensor(1.5))


@caught_by("tensors_are_cloned")
class SharesTheCallersTensor(Filter):
    def hold(self, **tensors):
        super().hold(**tensors)
        for name, t in tensors.items():
            self._buffers[name] = t


@caught_by("spec_round_trip")
class AttributeIsNotTheParameter(Filter):
    """Keeps something else under the parameter's name: the saved form gives another operator."""

    def __init__(self, kernel: torch.Tensor):
        super().__init__(kernel / kernel.sum())
        self.kernel.mul_(2.0)


@caught_by("dtype_moves")
class PlainAttributeIsLeftBehind(Filter):
    def __init__(self, kernel: torch.Tensor):
        super().__init__(kernel)
        self.gain = torch.tensor([1.5])

    def _forward(self, x):
        y = super()._forward(x)
        return (y.to(self.gain.dtype) * self.gain) if y.dtype == torch.float64 else y * self.gain

    def _adjoint(self, y):
        return super()._adjoint(y) * self.gain.to(y.dtype)

    def diagonal(self):
        return None


@caught_by("at_reaches_the_output")
class ThetaWithoutEffect(Filter):
    theta = {"kernel": 3, "spare": 1}

    def __init__(self, kernel: torch.Tensor, spare: torch.Tensor):
        super().__init__(kernel)
        self.hold(kernel=kernel, spare=spare)

    @classmethod
    def example(cls):
        return cls(kernel=Filter.example().kernel, spare=torch.ones(2))


@caught_by("pickling")
class CannotBePickled(Filter):
    def __init__(self, kernel: torch.Tensor):
        super().__init__(kernel)
        self.window = lambda t: t


@caught_by("example_reproducible")
class ExampleFromGlobalRandomness(Filter):
    @classmethod
    def example(cls):
        return cls(kernel=torch.randn(2, 5, 4))


@caught_by("vjp_finite_differences", "vjp_is_autograd")
class WrongDerivative(Saturation):
    def _vjp(self, x, v):
        return self.gain * v / torch.sqrt(1 + x * x)


@caught_by("rows")
class RowsInAnotherOrder(Coils):
    def rows(self, idx):
        return super().rows(idx.sort().values)


@caught_by("in_theta", "declaration")
class ClaimsToBeLinearInTheta(Saturation):
    linear_in = ("gain", "offset")

    def _forward(self, x):
        return self.gain**2 * x / torch.sqrt(1 + x * x)


@caught_by("initial")
class StartAtTheWrongScale(Filter):
    def initial(self, y, rng=None):
        return 100.0 * self._adjoint(y)


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


# --- solvers ---


@caught_by("reproducible")
@dataclass(frozen=True, kw_only=True)
class SolverReseedsGlobally(Landweber):
    """Reseeds the global generator, as some samplers do."""

    def init(self, problem, prior, rng, x0=None):
        torch.manual_seed(0)
        return super().init(problem, prior, rng, x0)


@caught_by("reproducible", "step_is_pure")
@dataclass(frozen=True, kw_only=True)
class SolverDrawsFromTheGlobalGenerator(Landweber):
    """Noise from nowhere."""

    def step(self, problem, prior, state, k, rng):
        state, info = super().step(problem, prior, state, k, rng)
        return Iterate(state.x + 1e-3 * torch.randn_like(state.x)), info


@caught_by("data_scale_invariance")
@dataclass(frozen=True, kw_only=True)
class SolverStopsAbsolutely(Landweber):
    """Stands still once the gradient is below 1e-3, whatever the units."""

    def step(self, problem, prior, state, k, rng):
        new, info = super().step(problem, prior, state, k, rng)
        small = expand(norm(new.x - state.x) < 1e-3, new.x)
        return Iterate(torch.where(small, state.x, new.x)), info


@caught_by("data_scale_invariance")
@dataclass(frozen=True, kw_only=True)
class FixedStepSize(Landweber):
    """A step that the user was made to guess."""

    def step(self, problem, prior, state, k, rng):
        return Iterate(state.x - 5e-4 * problem.grad(state.x) / (problem.grad(state.x).abs().max() + 1e-3)), {}


@caught_by("step_is_pure", "arguments_untouched")
@dataclass(frozen=True, kw_only=True)
class StepWritesIntoItsState(Landweber):
    """x -= …, in place."""

    def init(self, problem, prior, rng, x0=None):
        return Iterate(problem.initial(rng) if x0 is None else x0)

    def step(self, problem, prior, state, k, rng):
        g = problem.grad(state.x)
        state.x.sub_(g / expand(problem.lipschitz, g))
        return state, {}


@caught_by("batch_of_problems")
@dataclass(frozen=True, kw_only=True)
class StepFromTheWholeBatch(Landweber):
    """One Barzilai–Borwein-like step for all samples."""

    def step(self, problem, prior, state, k, rng):
        g = problem.grad(state.x)
        back = problem.operator(g)
        return Iterate(state.x - (g * g).sum() / (back * back).sum() * problem.likelihood.sigma**2 * g), {}


@caught_by("minimiser_certificate")
@dataclass(frozen=True, kw_only=True)
class ProxAtTheWrongStep(ProximalGradient):
    """The prior's prox at twice the step: minimises nll + 2·value."""

    def step(self, problem, prior, state, k, rng):
        step = 1 / problem.lipschitz
        return Iterate(prior.prox(state.x - expand(step, state.x) * problem.grad(state.x), 2 * step)), {}


@caught_by("unrolled_gradient")
@dataclass(frozen=True, kw_only=True)
class DetachesBetweenSteps(ProximalGradient):
    """No gradient survives a step."""

    def step(self, problem, prior, state, k, rng):
        new, info = super().step(problem, prior, state, k, rng)
        return Iterate(new.x.detach()), info


@caught_by("warm_start")
@dataclass(frozen=True, kw_only=True)
class IgnoresTheWarmStart(ProximalGradient):
    """x0 is accepted and dropped."""

    def init(self, problem, prior, rng, x0=None):
        return super().init(problem, prior, rng)


@caught_by("info")
@dataclass(frozen=True, kw_only=True)
class ReportsNumbers(Landweber):
    """.item() in the loop, one number for the batch."""

    def step(self, problem, prior, state, k, rng):
        new, _ = super().step(problem, prior, state, k, rng)
        return new, {"change": float((new.x - state.x).norm())}


@caught_by("alternatives")
@dataclass(frozen=True, kw_only=True)
class AdmitsPoissonNoise(ProximalGradient):
    """Forgets that its step needs Gaussian noise, and fails inside."""

    needs = {"prior": ("prox",), "operator": ("linear",), "likelihood": ("gaussian|poisson",)}


@caught_by("alternatives")
@dataclass(frozen=True, kw_only=True)
class AdmitsDenoisers(ProximalGradient):
    """Says that a denoiser will do, then calls its prox."""

    needs = {"prior": ("prox|denoise",), "operator": ("linear",), "likelihood": ("gaussian",)}


@caught_by("checkpoint_and_resume")
@dataclass(frozen=True, kw_only=True)
class HidesStateOutsideTheState(Landweber):
    """Momentum kept in a module-level dictionary: lost in a checkpoint."""

    def init(self, problem, prior, rng, x0=None):
        _HIDDEN.clear()
        return super().init(problem, prior, rng, x0)

    def step(self, problem, prior, state, k, rng):
        new, info = super().step(problem, prior, state, k, rng)
        ahead = new.x + 0.5 * (new.x - _HIDDEN.get("x", new.x))
        _HIDDEN["x"] = new.x
        return Iterate(ahead), info


_HIDDEN: dict[str, torch.Tensor] = {}


@caught_by("posterior_moments")
@dataclass(frozen=True, kw_only=True)
class HalfTheVariance(DirectSampler):
    """Injects noise/√2, as DDRM was ported once."""

    def step(self, problem, prior, state, k, rng):
        new, info = super().step(problem, prior, state, k, rng)
        mean = problem.prox(torch.full_like(state.x, prior.mean), 1 / prior.weight)
        return Iterate(mean + (new.x - mean) / 2**0.5), info


@caught_by("posterior_moments")
@dataclass(frozen=True, kw_only=True)
class IgnoresTheMeasurement(DirectSampler):
    """Draws from the prior."""

    def step(self, problem, prior, state, k, rng):
        noise = torch.randn(state.x.shape, dtype=state.x.dtype, generator=rng)
        return Iterate(prior.mean + noise / prior.weight**0.5), {}


@caught_by("data_scale_invariance")
@dataclass(frozen=True, kw_only=True)
class SigmaInNoUnits(HalfQuadratic):
    """A noise level in fixed units, under a name that says nothing of it."""

    n_steps: PositiveInt = 10
    strength: PositiveFloat = 0.1

    def step(self, problem, prior, state, k, rng):
        return Iterate(problem.prox(prior.denoise(state.x, self.strength), self.strength**2)), {}


# --- the tests ---

CORRECT = [
    Filter, Dense, Coils, RunningSum, Saturation, GaussianImages, GaussianPosterior, Ridge, SoftThreshold, Gaussian,
    Landweber, ProximalGradient, HalfQuadratic, DirectSampler,
]  # fmt: skip


@pytest.mark.parametrize(("cls", "check"), BUGS, ids=[f"{c.__name__}-{n}" for c, n in BUGS])
def test_wrong_implementation_is_caught(cls, check):
    outcomes = {o.name: o for o in run_checks(cls, only=[check])}
    assert outcomes[check].status == "failed", f"{cls.__name__} passes {check}"
    assert outcomes[check].message


@pytest.mark.parametrize("cls", CORRECT, ids=lambda c: c.__name__)
def test_correct_twin_passes_everything(cls):
    assert [f"{o.name}: {o.message}" for o in run_checks(cls) if o.bad] == []


def test_every_bug_has_a_correct_twin_and_there_are_enough():
    wrong = {cls for cls, _ in BUGS}
    assert len(wrong) >= 70
    orphans = [c.__name__ for c in wrong if not any(issubclass(c, good) for good in CORRECT)]
    assert orphans == ["PerSampleThetaLandsOnChannels"]  # its twin is the same class with a reshape, below


class PerSampleThetaOnSamples(PerSampleThetaLandsOnChannels):
    def _forward(self, x):
        return x * self.weight.reshape(*self.weight.shape, 1, 1)


def test_twin_of_the_per_sample_bug_passes():
    assert [f"{o.name}: {o.message}" for o in run_checks(PerSampleThetaOnSamples) if o.bad] == []
