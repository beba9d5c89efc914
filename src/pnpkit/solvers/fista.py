"""Accelerated proximal gradient."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from pnpkit.linalg import expand, inner
from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver
from pnpkit.solvers.steps import check_sigma, first_step, forward_backward, start


class FISTAState(NamedTuple):
    x: torch.Tensor
    v: torch.Tensor  # the extrapolated point
    t: torch.Tensor  # momentum counter, (B,)
    step: torch.Tensor  # γ, (B,)
    zx: torch.Tensor | None  # A(x) and A(v), kept where γ is searched
    zv: torch.Tensor | None


@dataclass(frozen=True, kw_only=True)
class FISTA(Solver):
    """FISTA (Beck & Teboulle 2009, eqs. 4.1–4.3) with gradient restart, per sample (O'Donoghue & Candès 2015, §3.2).

    With a Proximable it minimises nll + h. With a denoiser it is PnP-FISTA (Kamilov, Mansour & Wohlberg 2017), where
    the restart is what keeps momentum from diverging.

    γ = relative_step/L where the data term is quadratic. For Poisson data γ is searched; it may grow again at a
    restart only, and momentum that would leave the counts' domain is dropped.

    sigma : strength of a denoiser, in units of x, required for one.
    """

    n_steps: PositiveInt = 100
    tol: NonNegativeFloat | None = None
    relative_step: PositiveFloat = 1.0
    sigma: PositiveFloat | None = None
    restart: bool = True

    needs = {"operator": ("linear",), "prior": ("prox|denoise",)}
    minimises = True

    def init(self, problem: Problem, prior: Any, rng: torch.Generator, x0: torch.Tensor | None = None) -> FISTAState:
        check_sigma(prior, self.sigma)
        x = start(problem, x0, rng)
        step, z = first_step(problem, x, self.relative_step)
        return FISTAState(x, x, torch.ones_like(step), step, z, z)

    def step(self, problem: Problem, prior: Any, state: FISTAState, k: int, rng: torch.Generator):
        x, v, t, step, zx, zv = state
        new, z, step, _ = forward_backward(problem, v, zv, step, prior, self.sigma)
        momentum, t, back = accelerated(x, v, new, t, self.restart)
        info = {"restart": back.to(t.dtype)}
        if z is None or zx is None:
            return FISTAState(new, new + expand(momentum, x) * (new - x), t, step, None, None), info
        zv = z + expand(momentum, z) * (z - zx)
        inside = problem.likelihood.feasible(zv)
        momentum, zv = torch.where(inside, momentum, 0), torch.where(expand(inside, z), zv, z)
        v = new + expand(momentum, x) * (new - x)
        return FISTAState(new, v, t, torch.where(back, 2 * step, step), z, zv), info | {"step": step}

    @classmethod
    def example(cls) -> Self:
        return cls(n_steps=400, sigma=0.1)


def accelerated(
    x: torch.Tensor, v: torch.Tensor, new: torch.Tensor, t: torch.Tensor, restart: bool = True
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(β, t+, restarted), (B,) each: the next extrapolation is new + β·(new − x).

    Restarts, with β = 0, where momentum points against the step: Re⟨v − new, new − x⟩ > 0.
    """
    back = (inner(v - new, new - x) > 0) if restart else torch.zeros_like(t, dtype=torch.bool)
    t = torch.where(back, 1, t)
    following = (1 + torch.sqrt(1 + 4 * t * t)) / 2
    return torch.where(back, 0, (t - 1) / following), following, back
