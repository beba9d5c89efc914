"""RED by its fixed-point iteration."""

from dataclasses import dataclass
from typing import Any, Self

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver
from pnpkit.solvers.red import NEEDS, REDState
from pnpkit.solvers.schedules import given_or_noise
from pnpkit.solvers.steps import injected, on_x, start


@dataclass(frozen=True, kw_only=True)
class REDFixedPoint(Solver):
    """x+ = argmin nll(x) + w/2·‖x − D(x_k, sigma)‖², the data prox at 1/w (Romano, Elad & Milanfar 2017, §4.2).

    w = lam/sigma² as in ``red``, whose fixed points it shares, in fewer denoiser calls. The prox is a contraction
    only where A sees, so elsewhere D must be one.

    sigma : noise level for the denoiser, units of x; None is that of the noise per pixel of x.
    inject : as in ``red``.
    """

    n_steps: PositiveInt = 50
    tol: NonNegativeFloat | None = None
    lam: PositiveFloat = 0.23
    sigma: PositiveFloat | None = None
    inject: NonNegativeFloat = 0.0

    needs = NEEDS

    def init(self, problem: Problem, prior: Any, rng: torch.Generator, x0: torch.Tensor | None = None) -> REDState:
        return REDState(start(problem, x0, rng), given_or_noise(problem, prior, self.sigma))

    def step(self, problem: Problem, prior: Any, state: REDState, k: int, rng: torch.Generator):
        denoised = on_x(prior).denoise(injected(state.x, state.sigma, self.inject, rng), state.sigma)
        x = problem.prox(denoised, state.sigma**2 / self.lam)
        return REDState(x, state.sigma), {"sigma": state.sigma}

    @classmethod
    def example(cls) -> Self:
        return cls(n_steps=30)
