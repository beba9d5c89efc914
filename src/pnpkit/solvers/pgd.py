"""Proximal gradient descent."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from pnpkit.linalg import expand
from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver
from pnpkit.solvers.steps import first_step, gradient_step, lipschitz_step, prior_step, start


class PGDState(NamedTuple):
    x: torch.Tensor
    step: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class PGD(Solver):
    """x+ = prox_{γh}(x − γ·∇nll(x)) (Combettes & Wajs 2005), or D(x − γ·∇nll(x), sigma): PnP-PGD.

    γ = relative_step/L where the data term is quadratic, backtracking elsewhere. With a Proximable it minimises
    nll + h; with a denoiser ``sigma`` is its strength, in units of x.
    """

    n_steps: PositiveInt = 200
    tol: NonNegativeFloat | None = None
    relative_step: PositiveFloat = 1.0
    sigma: PositiveFloat | None = None

    needs = {"prior": ("prox|denoise",)}
    minimises = True

    def init(self, problem: Problem, prior: Any, rng: torch.Generator, x0: torch.Tensor | None = None) -> PGDState:
        x = start(problem, x0, rng)
        step = lipschitz_step(problem, self.relative_step)
        return PGDState(x, first_step(problem, x, problem.grad(x)) if step is None else step)

    def step(self, problem: Problem, prior: Any, state: PGDState, k: int, rng: torch.Generator):
        x, step = state
        gradient = problem.grad(x)

        def finish(z: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
            return prior_step(prior, z, tau, self.sigma)

        if lipschitz_step(problem, self.relative_step) is not None:
            return PGDState(finish(x - expand(step, x) * gradient, step), step), {}
        new, used = gradient_step(problem, x, gradient, step, finish)
        return PGDState(new, 2 * used), {"step": used}

    @classmethod
    def example(cls) -> Self:
        return cls(n_steps=1500, sigma=0.1)
