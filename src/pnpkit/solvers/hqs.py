"""Half-quadratic splitting with decreasing noise levels: DPIR."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver
from pnpkit.solvers.schedules import log_spaced
from pnpkit.solvers.steps import fitted_sigma, noise_level, prior_step, start


class HQSState(NamedTuple):
    x: torch.Tensor
    sigmas: torch.Tensor  # (n_steps,)


@dataclass(frozen=True, kw_only=True)
class HQS(Solver):
    """x = prox_{(s²/lam)·nll}(z), z = D(x, s) for s from sigma_start down to sigma_end (Zhang et al., DPIR, TPAMI 2021, alg. 1).

    Their alpha_k = lam·sigma_y²/s_k² is this prox weight. sigma_end None takes the noise level in units of x. The
    schedule is fitted into the denoiser's range at the start and recorded as info["sigma"]. With a Proximable, its
    prox at s²/lam takes the denoiser's place: classical HQS with continuation.

    sigma_start, sigma_end : in units of x (49/255 for photographs in [0, 1]).
    lam : trade-off, without units.
    """

    n_steps: PositiveInt = 8
    tol: NonNegativeFloat | None = None
    sigma_start: PositiveFloat = 49 / 255
    sigma_end: PositiveFloat | None = None
    lam: PositiveFloat = 0.23

    needs = {"operator": ("linear",), "prior": ("prox|denoise",), "likelihood": ("gaussian",)}
    scheduled = True

    def init(self, problem: Problem, prior: Any, rng: torch.Generator, x0: torch.Tensor | None = None) -> HQSState:
        end = float(noise_level(problem).min()) if self.sigma_end is None else self.sigma_end
        first = max(self.sigma_start, end)
        sigmas = log_spaced(fitted_sigma(prior, first), fitted_sigma(prior, end), self.n_steps)
        x = start(problem, x0, rng)
        return HQSState(x, torch.tensor(sigmas, dtype=problem.in_dtype.to_real(), device=problem.device))

    def step(self, problem: Problem, prior: Any, state: HQSState, k: int, rng: torch.Generator):
        sigma = state.sigmas[k].expand(problem.batch)
        tau = sigma**2 / self.lam
        z = problem.prox(state.x, tau)
        return HQSState(prior_step(prior, z, tau, sigma), state.sigmas), {"sigma": sigma}

    @classmethod
    def example(cls) -> Self:
        return cls(n_steps=6)


