"""ADMM with a prox or a denoiser."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from pnpkit.priors.base import Proximable
from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver
from pnpkit.solvers.schedules import log_spaced
from pnpkit.solvers.steps import fitted_sigma, noise_level, on_x, prior_step, start


class ADMMState(NamedTuple):
    x: torch.Tensor  # the denoised iterate, which is returned
    u: torch.Tensor  # scaled dual
    sigmas: torch.Tensor  # (n_steps,)


@dataclass(frozen=True, kw_only=True)
class ADMM(Solver):
    """v = prox_{t·nll}(x − u), x = prior(v + u), u = u + v − x.

    Boyd et al. 2011, §3.1.1, with the prior's prox, then it minimises nll + h; PnP-ADMM (Venkatakrishnan et al. 2013;
    score-PnP, arXiv 2412.11108, algorithm 1 with its return value corrected) with a denoiser.

    penalty : t·L for a Proximable, without units: the data prox's step relative to 1/L. None is 1.
    sigma, sigma_start : denoiser strength at the end and at the start, units of x; log-spaced between, constant when
        sigma_start is None. sigma None takes the noise level in units of x. For a denoiser t = sigma²/lam.
    """

    n_steps: PositiveInt = 50
    tol: NonNegativeFloat | None = None
    penalty: PositiveFloat | None = None
    sigma: PositiveFloat | None = None
    sigma_start: PositiveFloat | None = None
    lam: PositiveFloat = 0.23

    needs = {"operator": ("linear",), "prior": ("prox|denoise",), "likelihood": ("gaussian",)}
    scheduled = True
    minimises = True

    def init(self, problem: Problem, prior: Any, rng: torch.Generator, x0: torch.Tensor | None = None) -> ADMMState:
        end = float(noise_level(problem).min()) if self.sigma is None else self.sigma
        first = end if self.sigma_start is None else max(self.sigma_start, end)
        sigmas = log_spaced(fitted_sigma(prior, first), fitted_sigma(prior, end), self.n_steps)
        x = start(problem, x0, rng)
        return ADMMState(x, torch.zeros_like(x), torch.tensor(sigmas, dtype=problem.in_dtype.to_real(), device=problem.device))

    def step(self, problem: Problem, prior: Any, state: ADMMState, k: int, rng: torch.Generator):
        sigma = state.sigmas[k].expand(problem.batch)
        proximable = isinstance(on_x(prior), Proximable)
        t = (self.penalty or 1.0) / problem.lipschitz if proximable else sigma**2 / self.lam
        v = problem.prox(state.x - state.u, t)
        x = prior_step(prior, v + state.u, t, sigma)
        return ADMMState(x, state.u + v - x, state.sigmas), {} if proximable else {"sigma": sigma}

    @classmethod
    def example(cls) -> Self:
        return cls(n_steps=500, penalty=3.0)
