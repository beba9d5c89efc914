"""Least squares + TV with the closed-form TV step."""

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, Self

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from pnpkit.linalg import expand
from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver
from pnpkit.solvers.fista import accelerated
from pnpkit.solvers.steps import on_x, start


class APGState(NamedTuple):
    x: torch.Tensor
    v: torch.Tensor
    t: torch.Tensor  # (B,)


@dataclass(frozen=True, kw_only=True)
class ClosedFormTVAPG(Solver):
    """x+ = P_γ(v − γ·∇nll(v)) with FISTA's momentum, P that of ``ClosedFormTV`` (TCI 2025, vol. 11, 1217–1228).

    γ = relative_step/L, so TV's step is τ = γ·weight. Nothing inside iterates, at a price: the fixed point is the
    minimiser of nll + weight·TV smoothed over 4·d·τ grey values (d axes), so its error shrinks like γ while the
    iterations grow like 1/√γ. Large steps are fast, small ones accurate; ``pdhg`` or ``fista`` with the prior ``tv``
    have no such error. γ falls geometrically from 1/L to its final value over the first ``warm_steps`` (a
    reconstruction, not in the paper: far from the solution large steps do no harm); 0 is the paper's constant γ.
    """

    n_steps: PositiveInt = 150
    tol: NonNegativeFloat | None = None
    relative_step: Annotated[float, Field(gt=0, le=1)] = 0.05
    warm_steps: NonNegativeInt = 75

    needs = {"operator": ("linear",), "prior": ("closed_form_tv",), "likelihood": ("gaussian",)}

    def init(self, problem: Problem, prior: Any, rng: torch.Generator, x0: torch.Tensor | None = None) -> APGState:
        x = start(problem, x0, rng)
        return APGState(x, x, torch.ones_like(problem.lipschitz))

    def _relative(self, k: int) -> float:
        return self.relative_step ** min(1.0, (k + 1) / max(self.warm_steps, 1))

    def step(self, problem: Problem, prior: Any, state: APGState, k: int, rng: torch.Generator):
        x, v, t = state
        gamma = self._relative(k) / problem.lipschitz
        new = on_x(prior).prox(v - expand(gamma, v) * problem.grad(v), gamma)
        momentum, t, _ = accelerated(x, v, new, t)
        return APGState(new, new + expand(momentum, x) * (new - x), t), {"step": gamma}

    @classmethod
    def example(cls) -> Self:
        return cls(n_steps=40)
