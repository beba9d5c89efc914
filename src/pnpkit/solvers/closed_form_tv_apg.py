"""Least squares + TV with the closed-form TV step."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from pnpkit.linalg import expand
from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver
from pnpkit.solvers.steps import on_x, start


class APGState(NamedTuple):
    x: torch.Tensor
    v: torch.Tensor
    t: float


@dataclass(frozen=True, kw_only=True)
class ClosedFormTVAPG(Solver):
    """Accelerated proximal gradient with ``ClosedFormTV`` as the prox (TCI 2025, vol. 11, 1217–1228).

    The step is γ = relative_step/L. The closed form's error is proportional to γ, the number of iterations to reach
    the minimiser to 1/γ: small steps are accurate, large ones fast (benchmarks/results/tv_prox.md). The first
    ``n_steps``·``warm`` steps shrink γ geometrically from 1/L, which is a reconstruction, not in the paper.
    """

    n_steps: PositiveInt = 150
    tol: NonNegativeFloat | None = None
    relative_step: PositiveFloat = 0.05
    warm: NonNegativeFloat = 0.5

    needs = {"operator": ("linear",), "prior": ("closed_form_tv",), "likelihood": ("gaussian",)}

    def init(self, problem: Problem, prior: Any, rng: torch.Generator, x0: torch.Tensor | None = None) -> APGState:
        x = start(problem, x0, rng)
        return APGState(x, x, 1.0)

    def _relative(self, k: int) -> float:
        steps = self.warm * self.n_steps
        return self.relative_step ** min(1.0, (k + 1) / steps) if steps >= 1 else self.relative_step

    def step(self, problem: Problem, prior: Any, state: APGState, k: int, rng: torch.Generator):
        x, v, t = state
        gamma = self._relative(k) / problem.lipschitz
        new = on_x(prior).prox(v - expand(gamma, v) * problem.grad(v), gamma)
        t_new = (1 + (1 + 4 * t * t) ** 0.5) / 2
        return APGState(new, new + ((t - 1) / t_new) * (new - x), t_new), {}

    @classmethod
    def example(cls) -> Self:
        return cls(n_steps=40)
