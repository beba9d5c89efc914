"""Gradient descent on the data term."""

from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from pnpkit.linalg import expand, norm
from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver
from pnpkit.solvers.steps import first_step, gradient_step, lipschitz_step, start


class DescentState(NamedTuple):
    x: torch.Tensor
    step: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class GradientDescent(Solver):
    """x+ = x − γ·∇nll(x), any operator and likelihood.

    γ = relative_step/L where the data term is quadratic; elsewhere (non-linear operators, Poisson) a backtracking
    search per sample, which starts from twice the last step.
    """

    n_steps: PositiveInt = 200
    tol: NonNegativeFloat | None = None
    relative_step: PositiveFloat = 1.0

    needs = {}
    minimises = True

    def init(self, problem: Problem, prior: None, rng: torch.Generator, x0: torch.Tensor | None = None) -> DescentState:
        x = start(problem, x0, rng)
        step = lipschitz_step(problem, self.relative_step)
        return DescentState(x, first_step(problem, x, problem.grad(x)) if step is None else step)

    def step(self, problem: Problem, prior: None, state: DescentState, k: int, rng: torch.Generator):
        gradient = problem.grad(state.x)
        info = {"gradient": norm(gradient)}
        if lipschitz_step(problem, self.relative_step) is not None:
            return DescentState(state.x - expand(state.step, state.x) * gradient, state.step), info
        x, used = gradient_step(problem, state.x, gradient, state.step, lambda z, _: z)
        return DescentState(x, 2 * used), info | {"step": used}

    @classmethod
    def example(cls) -> Self:
        return cls(n_steps=1500)
