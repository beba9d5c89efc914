"""Gradient descent on the data term."""

from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from pnpkit.linalg import expand, norm
from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver
from pnpkit.solvers.steps import GROWTH, first_step, forward_backward, start


class DescentState(NamedTuple):
    x: torch.Tensor
    step: torch.Tensor  # γ, (B,)
    z: torch.Tensor | None  # A(x), kept where γ is searched


@dataclass(frozen=True, kw_only=True)
class GradientDescent(Solver):
    """x+ = x − γ·∇nll(x): any operator and noise model (Nocedal & Wright 2006, ch. 3).

    γ = relative_step/L, L = ‖A‖²/sigma², where the data term is quadratic. Elsewhere (non-linear operators, Poisson) γ
    is searched per sample, starting a little above the last one, until 1/γ bounds the curvature along the step.
    Minimises nll for linear operators; for others it ends in a stationary point that depends on x0.

    relative_step : in (0, 2); quadratic data terms only.
    step_size : γ itself, in units of x²; neither computed nor searched then.
    """

    n_steps: PositiveInt = 200
    tol: NonNegativeFloat | None = None
    relative_step: PositiveFloat = 1.0
    step_size: PositiveFloat | None = None

    needs = {}
    minimises = True

    def init(self, problem: Problem, prior: None, rng: torch.Generator, x0: torch.Tensor | None = None) -> DescentState:
        x = start(problem, x0, rng)
        if self.step_size is not None:
            return DescentState(
                x, torch.full((problem.batch,), self.step_size, dtype=x.dtype.to_real(), device=x.device), None
            )
        return DescentState(x, *first_step(problem, x, self.relative_step))

    def step(self, problem: Problem, prior: None, state: DescentState, k: int, rng: torch.Generator):
        if state.z is None:
            gradient = problem.grad(state.x)
            new = DescentState(state.x - expand(state.step, state.x) * gradient, state.step, None)
            return new, {"gradient": norm(gradient)}
        x, z, used, gradient = forward_backward(problem, state.x, state.z, state.step)
        return DescentState(x, GROWTH * used, z), {"gradient": norm(gradient), "step": used}

    def scaled(self, c: float) -> Self:
        """``step_size`` is in units of x²."""
        return self if self.step_size is None else replace(self, step_size=self.step_size * c**2)

    @classmethod
    def example(cls) -> Self:
        return cls(n_steps=1500)
