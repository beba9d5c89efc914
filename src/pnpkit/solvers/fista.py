"""Accelerated proximal gradient."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from pnpkit.linalg import expand, inner
from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver
from pnpkit.solvers.steps import lipschitz_step, prior_step, start


class FISTAState(NamedTuple):
    x: torch.Tensor
    v: torch.Tensor  # the extrapolated point
    t: torch.Tensor  # (B,) momentum counter


@dataclass(frozen=True, kw_only=True)
class FISTA(Solver):
    """FISTA (Beck & Teboulle 2009, with constant step) with gradient-based restart per sample (O'Donoghue & Candès 2015).

    With a Proximable it minimises nll + h; with a denoiser (strength ``sigma``, units of x) it is PnP-FISTA, where
    the restart is what keeps momentum from diverging.
    """

    n_steps: PositiveInt = 100
    tol: NonNegativeFloat | None = None
    relative_step: PositiveFloat = 1.0
    sigma: PositiveFloat | None = None
    restart: bool = True

    needs = {"operator": ("linear",), "prior": ("prox|denoise",), "likelihood": ("gaussian",)}
    minimises = True

    def init(self, problem: Problem, prior: Any, rng: torch.Generator, x0: torch.Tensor | None = None) -> FISTAState:
        x = start(problem, x0, rng)
        return FISTAState(x, x, torch.ones_like(problem.lipschitz))

    def step(self, problem: Problem, prior: Any, state: FISTAState, k: int, rng: torch.Generator):
        x, v, t = state
        step = lipschitz_step(problem, self.relative_step)
        assert step is not None
        new = prior_step(prior, v - expand(step, v) * problem.grad(v), step, self.sigma)
        back = inner(v - new, new - x) > 0 if self.restart else torch.zeros_like(t, dtype=torch.bool)
        t = torch.where(back, torch.ones_like(t), t)
        t_new = (1 + torch.sqrt(1 + 4 * t * t)) / 2
        momentum = torch.where(back, 0 * t, (t - 1) / t_new)
        v = new + expand(momentum, new) * (new - x)
        return FISTAState(new, v, t_new), {"restart": back.to(t.dtype)}

    @classmethod
    def example(cls) -> Self:
        return cls(n_steps=400, sigma=0.1)
