"""ADMM with a prox or a denoiser."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from pnpkit.linalg import expand
from pnpkit.priors.base import Proximable
from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver
from pnpkit.solvers.schedules import fitted, given_or_noise, log_spaced
from pnpkit.solvers.steps import injected, on_x, prior_step, start


class ADMMState(NamedTuple):
    x: torch.Tensor  # after the prior
    u: torch.Tensor  # scaled dual, in units of x
    sigma: torch.Tensor  # (n_steps or 1, B) noise levels, the last for all later steps; not used by a Proximable


@dataclass(frozen=True, kw_only=True)
class ADMM(Solver):
    """v = prox_{t·nll}(x − u), x = prior(v + u), u = u + v − x.

    With a Proximable (its prox at t) it minimises nll + h (Boyd et al. 2011, §3.1.1), with t = penalty/L and
    L = ‖A‖²/sigma_y². With a denoiser, D(·, s) and t = s²/lam, it is PnP-ADMM (Venkatakrishnan et al. 2013), and with
    an s that falls that of Chan et al. 2017: the score-PnP paper's algorithm 1 (arXiv 2412.11108), returning the
    denoised iterate. Where D(·, s) is the prox of s²·φ the limit minimises nll + lam·φ, whatever s is.

    When t changes u is scaled with it, so that u/t, the prior's gradient, stays (Boyd et al., §3.4.1); the papers
    leave u as it is.

    penalty : without units; for a Proximable only. It changes the speed, not the limit.
    sigma : noise level the denoiser ends at, units of x; None is that of the noise per pixel of x.
    sigma_start : noise level it starts at, units of x, falling equally spaced in the logarithm; None is ``sigma``.
    lam : without units; for a denoiser only.
    inject : noise put in before each denoising, in units of its sigma; 1 is SGPnP (arXiv 2604.03603), which fills large
        holes that the deterministic method, 0, leaves.
    """

    n_steps: PositiveInt = 50
    tol: NonNegativeFloat | None = None
    penalty: PositiveFloat = 1.0
    sigma: PositiveFloat | None = None
    sigma_start: PositiveFloat | None = None
    lam: PositiveFloat = 0.23
    inject: NonNegativeFloat = 0.0

    needs = {"operator": ("linear",), "prior": ("prox|denoise",), "likelihood": ("gaussian",)}
    minimises = True

    @property
    def scheduled(self) -> bool:  # type: ignore[override]
        return self.sigma_start is not None

    def init(self, problem: Problem, prior: Any, rng: torch.Generator, x0: torch.Tensor | None = None) -> ADMMState:
        x = start(problem, x0, rng)
        last = given_or_noise(problem, prior, self.sigma)
        if self.sigma_start is None:
            return ADMMState(x, torch.zeros_like(x), last[None])
        first = fitted(prior, last.clamp_min(self.sigma_start))
        return ADMMState(x, torch.zeros_like(x), log_spaced(first, last, self.n_steps))

    def step(self, problem: Problem, prior: Any, state: ADMMState, k: int, rng: torch.Generator):
        x, u, levels = state
        sigma = levels[min(k, len(levels) - 1)]
        proximable = isinstance(on_x(prior), Proximable)
        t = self.penalty / problem.lipschitz if proximable else sigma**2 / self.lam
        if self.scheduled and k > 0 and not proximable:
            u = expand((sigma / levels[k - 1]) ** 2, u) * u
        v = problem.prox(x - u, t)
        u = u + v
        x = prior_step(prior, u if proximable else injected(u, sigma, self.inject, rng), t, sigma)
        return ADMMState(x, u - x, levels), {} if proximable else {"sigma": sigma}

    @classmethod
    def example(cls) -> Self:
        return cls(n_steps=500, penalty=3.0)
