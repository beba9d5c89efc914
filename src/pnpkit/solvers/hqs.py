"""Half-quadratic splitting with decreasing noise levels: DPIR."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from pnpkit.priors.base import Proximable
from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver
from pnpkit.solvers.schedules import given_or_noise, given_or_widest, log_spaced
from pnpkit.solvers.steps import injected, on_x, prior_step, start


class HQSState(NamedTuple):
    x: torch.Tensor  # denoised
    sigma: torch.Tensor  # (n_steps, B) noise levels


@dataclass(frozen=True, kw_only=True)
class HQS(Solver):
    """z = prox_{(s²/lam)·nll}(x), x = D(z, s), s from sigma_start down to sigma_end, equally spaced in the logarithm.

    DPIR (Zhang et al., TPAMI 2022, eqs. 6–8): their alpha_k = lam·sigma_y²/s² is the inverse of this prox weight, as
    nll has 1/sigma_y². D(·, s) stands for the prox of s²·φ, φ = −log p(x), so lam weighs the prior against the data.
    The schedule is fitted into the denoiser's range, per sample, and recorded as info["sigma"].

    At a constant s this minimises lam·φ and the Moreau envelope of the data term with s²/lam, as if the noise had
    covariance sigma_y²·I + (s²/lam)·A·Aᴴ; so an s that ends near the noise level ends near the minimiser. With a
    Proximable, its prox at s²/lam takes the denoiser's place: classical half-quadratic splitting with continuation.

    sigma_start : in units of x; None is 49/255 of the denoiser's value range, or of the brightest pixel at the start.
    sigma_end : in units of x; None is the noise level per pixel of x.
    lam : without units.
    inject : noise put in before each denoising, in units of its sigma; 1 is SGPnP (arXiv 2604.03603), which fills large
        holes that the deterministic method, 0, leaves.
    """

    n_steps: PositiveInt = 8
    tol: NonNegativeFloat | None = None
    sigma_start: PositiveFloat | None = None
    sigma_end: PositiveFloat | None = None
    lam: PositiveFloat = 0.23
    inject: NonNegativeFloat = 0.0

    needs = {"operator": ("linear",), "prior": ("prox|denoise",), "likelihood": ("gaussian",)}
    scheduled = True

    def init(self, problem: Problem, prior: Any, rng: torch.Generator, x0: torch.Tensor | None = None) -> HQSState:
        x = start(problem, x0, rng)
        last = given_or_noise(problem, prior, self.sigma_end)
        first = torch.maximum(given_or_widest(prior, self.sigma_start, x), last)
        return HQSState(x, log_spaced(first, last, self.n_steps))

    def step(self, problem: Problem, prior: Any, state: HQSState, k: int, rng: torch.Generator):
        sigma = state.sigma[k]
        tau = sigma**2 / self.lam
        z = problem.prox(state.x, tau)
        z = z if isinstance(on_x(prior), Proximable) else injected(z, sigma, self.inject, rng)
        return state._replace(x=prior_step(prior, z, tau, sigma)), {"sigma": sigma}

    @classmethod
    def example(cls) -> Self:
        return cls(n_steps=6)
