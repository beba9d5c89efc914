"""RED by its fixed-point iteration."""

from dataclasses import dataclass
from typing import Any, Self

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver
from pnpkit.solvers.red import NEEDS, REDState, red_sigma
from pnpkit.solvers.steps import on_x, start


@dataclass(frozen=True, kw_only=True)
class REDFixedPoint(Solver):
    """x+ = argmin nll(x) + w/2·‖x − D(x_k, sigma)‖² (Romano, Elad & Milanfar 2017, eq. 37): the data prox at 1/w.

    w = strength·L as in ``RED``, whose fixed points it shares, in far fewer denoiser calls where the prox is cheap.
    """

    n_steps: PositiveInt = 50
    tol: NonNegativeFloat | None = None
    strength: PositiveFloat = 0.2
    sigma: PositiveFloat | None = None

    needs = NEEDS

    def init(self, problem: Problem, prior: Any, rng: torch.Generator, x0: torch.Tensor | None = None) -> REDState:
        return REDState(start(problem, x0, rng), red_sigma(problem, prior, self.sigma))

    def step(self, problem: Problem, prior: Any, state: REDState, k: int, rng: torch.Generator):
        denoised = on_x(prior).denoise(state.x, state.sigma)
        x = problem.prox(denoised, 1 / (self.strength * problem.lipschitz))
        return REDState(x, state.sigma), {"sigma": state.sigma}

    @classmethod
    def example(cls) -> Self:
        return cls(n_steps=30)
