"""RED by ADMM."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver
from pnpkit.solvers.red import NEEDS, red_sigma
from pnpkit.solvers.steps import on_x, start


class REDADMMState(NamedTuple):
    x: torch.Tensor
    v: torch.Tensor
    u: torch.Tensor
    sigma: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class REDADMM(Solver):
    """RED by ADMM (Romano, Elad & Milanfar 2017, algorithm 2), with ``inner`` fixed-point denoisings a step.

    x = prox of nll at v − u; v solves w·(v − D(v)) + beta·(v − x − u) = 0 by v ← (w·D(v) + beta·(x + u))/(w + beta);
    u ← u + x − v. w = strength·L as in ``RED``, beta = penalty·w.
    """

    n_steps: PositiveInt = 50
    tol: NonNegativeFloat | None = None
    strength: PositiveFloat = 0.2
    sigma: PositiveFloat | None = None
    penalty: PositiveFloat = 1.0
    inner: PositiveInt = 1

    needs = NEEDS

    def init(self, problem: Problem, prior: Any, rng: torch.Generator, x0: torch.Tensor | None = None) -> REDADMMState:
        x = start(problem, x0, rng)
        return REDADMMState(x, x, torch.zeros_like(x), red_sigma(problem, prior, self.sigma))

    def step(self, problem: Problem, prior: Any, state: REDADMMState, k: int, rng: torch.Generator):
        w = self.strength * problem.lipschitz
        x = problem.prox(state.v - state.u, 1 / (self.penalty * w))
        v, target = state.v, x + state.u
        for _ in range(self.inner):
            v = (on_x(prior).denoise(v, state.sigma) + self.penalty * target) / (1 + self.penalty)
        return REDADMMState(x, v, target - v, state.sigma), {"sigma": state.sigma}

    @classmethod
    def example(cls) -> Self:
        return cls(n_steps=30)


