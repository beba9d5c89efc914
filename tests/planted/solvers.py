"""Wrong solvers."""

from dataclasses import dataclass

import torch
from pydantic import PositiveFloat, PositiveInt

from pnpkit.linalg import expand, norm

from ..toys_solvers import DirectSampler, HalfQuadratic, Iterate, Landweber, ProximalGradient
from .registry import caught_by


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


@caught_by("posterior_moments", "samples_follow_the_data")
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
