"""Reverse diffusion, shared by the samplers: noise levels, steps from one to the next, uncertainty of the denoiser."""

from abc import abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from pnpkit.likelihoods import randn_like
from pnpkit.linalg import expand, inner, norm
from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver
from pnpkit.solvers.schedules import diffusion_levels, spaced, width
from pnpkit.solvers.steps import on_x, start

STEP = 0.05  # of sigma: the difference by which the slope of a denoiser is measured
MEASURED_EVERY = 5  # steps
FARTHEST = 3.0  # times the pull of the data: the length of a guided step


class DiffusionState(NamedTuple):
    x: torch.Tensor  # the latest estimate of x0; after the last step the sample
    noisy: torch.Tensor  # x_t
    levels: torch.Tensor  # (n_steps + 1, B) noise levels, 0 at the end
    scale: torch.Tensor  # (B,) value range of the images
    precision: torch.Tensor  # (B,) 1/Var[x0 | x_t] − 1/σ_t², as last measured: that of the prior around x_t


@dataclass(frozen=True, kw_only=True)
class DiffusionSampler(Solver):
    """Base of the samplers that move x_t from the first noise level to zero; levels as in EDM (eq. 5).

    sigma_start, sigma_end : first and last noise level, in units of x; None: 10 and 0.002 times the denoiser's value
        range, or the brightest pixel of a first image from the data; fitted into the denoiser's range. With a warm
        start x0, sigma_start is the noise put on it.
    """

    n_steps: PositiveInt = 100
    tol: NonNegativeFloat | None = None
    sigma_start: PositiveFloat | None = None
    sigma_end: PositiveFloat | None = None

    samples = True
    scheduled = True

    def init(
        self, problem: Problem, prior: Any, rng: torch.Generator, x0: torch.Tensor | None = None
    ) -> DiffusionState:
        x = start(problem, x0, rng)
        levels = diffusion_levels(prior, x, self.n_steps, self.sigma_start, self.sigma_end)
        noisy = x + expand(levels[0], x) * randn_like(x, rng)
        scale = width(prior, x)
        return DiffusionState(x, noisy, levels, scale, prior_precision(scale))

    @property
    def measures(self) -> bool:
        """Whether the variance of x0 given x_t is measured where the steps do not tell it, by a call in five."""
        return True

    def remeasured(
        self, prior: Any, state: DiffusionState, clean: torch.Tensor, k: int, rng: torch.Generator
    ) -> torch.Tensor:
        """``state.precision`` for the next steps; ``clean`` is D(x_t, σ_t)."""
        if not self.measures or k % MEASURED_EVERY:
            return state.precision
        variance = posterior_variance(prior, state.noisy, clean, state.levels[k], state.scale, rng)
        return precision_of(variance, state.levels[k])


def prior_precision(scale: torch.Tensor) -> torch.Tensor:
    """That of pixels whose standard deviation is a quarter of their value range; a first guess."""
    return (scale / 4).clamp_min(torch.finfo(scale.dtype).tiny ** 0.25) ** -2


def variance_at(sigma: torch.Tensor, precision: torch.Tensor) -> torch.Tensor:
    """Var[x0 | x_t], (B,), from the precision of the prior around x_t."""
    return 1 / (sigma**-2 + precision)


def precision_of(variance: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """The inverse of ``variance_at``; no variance above sigma²."""
    return (1 / variance - sigma**-2).clamp_min(0)


@dataclass(frozen=True, kw_only=True)
class EstimateSteps(DiffusionSampler):
    """Steps along estimates of x0, extrapolated from the last two as in (SDE-)DPM-Solver++ (2M).

    Lu et al. 2023 (arXiv 2211.01095, §5 and appendix): that costs nothing and makes the steps second order.

    eta : share of fresh noise: with 1 a step draws from p(x_s | x_t, x0) at the estimate of x0 (DDPM), with 0 it
        follows the probability flow (DDIM).
    """

    eta: Annotated[float, Field(ge=0, le=1)] = 1.0

    def advanced(
        self,
        prior: Any,
        state: DiffusionState,
        estimate: torch.Tensor,  # of x0 given x_t and y
        clean: torch.Tensor,  # D(x_t, σ_t)
        k: int,
        rng: torch.Generator,
        part: torch.Tensor | None = None,  # Var[x0 | x_t]/σ_t² (B,) where it is known
    ) -> DiffusionState:
        """The state at the next level."""
        now, then = state.levels[k], state.levels[k + 1]
        ahead = estimate if k == 0 else extrapolated(estimate, state.x, state.levels[k - 1], now, then)
        noisy = self.moved(state.noisy, ahead, now, then, rng)
        x = noisy if k + 1 == self.n_steps else estimate
        if part is None:
            precision = self.remeasured(prior, state, clean, k, rng)
        else:
            precision = precision_of(believed(part, now, state.scale), now)
        return state._replace(x=x, noisy=noisy, precision=precision)

    def moved(
        self, x: torch.Tensor, clean: torch.Tensor, now: torch.Tensor, then: torch.Tensor, rng: torch.Generator
    ) -> torch.Tensor:
        """x_t at level ``now`` moved to level ``then``, given x0."""
        return moved(x, clean, now, then, self.eta, rng)


@dataclass(frozen=True, kw_only=True)
class GuidedDiffusion(EstimateSteps):
    """Steps along an estimate of E[x0 | x_t, y], which subclasses make.

    Those that go through the denoiser with the data's pull d know Jd for nothing, J = ∂D/∂x: the variance of x0 given
    x_t along d, σ²·⟨d, Jd⟩/⟨d, d⟩ (Tweedie's second order), serves the next step. Images vary far more in some
    directions than in others, and d is the one that matters.
    """

    @abstractmethod
    def estimate(
        self,
        problem: Problem,
        prior: Any,
        x: torch.Tensor,  # x_t, (B, *in_shape)
        sigma: torch.Tensor,  # its noise level, (B,)
        variance: torch.Tensor,  # of x0 given x_t, (B,)
        rng: torch.Generator,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """(E[x0 | x_t, y] approximately, D(x_t, sigma), ⟨d, Jd⟩/⟨d, d⟩ (B,) or None)."""

    def step(self, problem: Problem, prior: Any, state: DiffusionState, k: int, rng: torch.Generator):
        now = state.levels[k]
        known = variance_at(now, state.precision)
        estimate, clean, part = self.estimate(problem, prior, state.noisy, now, known, rng)
        return self.advanced(prior, state, estimate, clean, k, rng, part), {"sigma": now}


def moved(
    x: torch.Tensor, clean: torch.Tensor, now: torch.Tensor, then: torch.Tensor, eta: float, rng: torch.Generator
) -> torch.Tensor:
    """DDIM's step (Song et al. 2021, eq. 12) in noise levels: x_t at level ``now`` to level ``then``, given x0."""
    fresh = eta * then * (1 - (then / now) ** 2).sqrt()
    keep = (then**2 - fresh**2).clamp_min(0).sqrt() / now
    x = clean + expand(keep, x) * (x - clean)
    return x + expand(fresh, x) * randn_like(x, rng) if eta else x


def extrapolated(
    clean: torch.Tensor, before: torch.Tensor, first: torch.Tensor, now: torch.Tensor, then: torch.Tensor
) -> torch.Tensor:
    """The estimate half a step ahead, from those at levels ``first`` and ``now``; as it is for the step to zero.

    DPM-Solver++ (2M): D + h/(2·h_before)·(D − D_before), with h the step in −ln sigma. Not farther than the estimate's
    own last change: a long last step would amplify its noise.
    """
    h = torch.where(then > 0, (now / then.clamp_min(torch.finfo(then.dtype).tiny)).log(), 0)
    ratio = (h / (first / now).log().clamp_min(torch.finfo(h.dtype).tiny)).clamp(max=1.0)
    return clean + expand(0.5 * ratio, clean) * (clean - before)


def pulled(clean: torch.Tensor, slope: torch.Tensor, size: torch.Tensor, direct: torch.Tensor) -> torch.Tensor:
    """clean + size·slope, size (B,), but at most ``FARTHEST`` times as far as ``direct`` (B,), the length of what the
    data alone ask of ``clean``: beyond, a network's slope is not believed.
    """
    farthest = FARTHEST * direct / norm(slope).clamp_min(torch.finfo(size.dtype).tiny)
    return clean + expand(torch.minimum(size, farthest), clean) * slope


def way_down(gradient: torch.Tensor, misfit: torch.Tensor) -> torch.Tensor:
    """(B,): how far along its gradient nll would fall to nothing, were it linear in its root (twice Polyak's step)."""
    return misfit / norm(gradient).clamp_min(torch.finfo(misfit.dtype).tiny)


def spread(gradient: torch.Tensor, slope: torch.Tensor, sigma: torch.Tensor, misfit: torch.Tensor) -> torch.Tensor:
    """Variance that x0 given x_t gives the data along their misfit, in units of the noise's, (B,).

    With the covariance σ²J of x0 (Tweedie's second order), u the misfit in units of the noise, W its inverse variance
    and g = AᴴW^½u: ⟨u, W^½A·σ²J·AᴴW^½u⟩/⟨u, u⟩ = σ²⟨g, Jg⟩/⟨u, u⟩, and a guided step has Jg already.
    """
    return sigma**2 * inner(gradient, slope).clamp_min(0) / misfit.clamp_min(torch.finfo(misfit.dtype).tiny)


def posterior_variance(
    prior: Any, x: torch.Tensor, clean: torch.Tensor, sigma: torch.Tensor, scale: torch.Tensor, rng: torch.Generator
) -> torch.Tensor:
    """Mean variance of x0 given x_t per real component, (B,); ``clean`` is D(x_t, sigma).

    Tweedie's second order: Cov[x0 | x_t] = sigma²·∂D/∂x. Its mean eigenvalue is measured along one random direction
    (Hutchinson 1990), by a difference of a twentieth of sigma: one more call of the denoiser.
    """
    probe = randn_like(x, rng)
    ahead = on_x(prior).denoise(x + expand(STEP * sigma, x) * probe, sigma)
    return believed(share(probe, ahead - clean) / (STEP * sigma), sigma, scale)


def share(direction: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
    """⟨d, c⟩/⟨d, d⟩, (B,): how much of ``direction`` is in ``change``; 0 for d = 0."""
    return inner(direction, change) / inner(direction, direction).clamp_min(torch.finfo(direction.dtype).tiny)


def believed(part: torch.Tensor, sigma: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """sigma²·part as a variance of x0 given x_t, (B,): at least a hundredth of what pixels of standard deviation
    ``scale``/4 would have, which a network far from its training may miss.
    """
    return torch.maximum(sigma**2 * part, 0.01 * variance_at(sigma, prior_precision(scale)))


def reverse_diffusion(
    prior: Any, z: torch.Tensor, sigma: torch.Tensor, last: torch.Tensor, n_steps: int, rng: torch.Generator
) -> torch.Tensor:
    """A draw of x0 given x0 + sigma·n = z, by reverse steps on levels from ``sigma`` to ``last``, then zero; (B,) each.

    The stochastic process, not the probability flow, which would give one fixed x0 for each z. Levels are equally
    spaced in √sigma: with 8 to 12 of them, from sigma to sigma/25, the variance of draws of a Gaussian of any width
    down to sigma/3 is right within 2% (equal ratios: 8%).
    """
    levels = [*spaced(sigma, last.minimum(sigma), n_steps, 2.0), torch.zeros_like(sigma)]
    before, x = None, z
    for k, (now, then) in enumerate(pairwise(levels)):
        clean = on_x(prior).denoise(x, now)
        ahead = clean if before is None else extrapolated(clean, before, levels[k - 1], now, then)
        x, before = moved(x, ahead, now, then, 1.0, rng), clean
    return x
