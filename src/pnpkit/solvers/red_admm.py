"""RED by ADMM."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver
from pnpkit.solvers.red import NEEDS
from pnpkit.solvers.schedules import given_or_noise
from pnpkit.solvers.steps import on_x, start


class REDADMMState(NamedTuple):
    x: torch.Tensor
    v: torch.Tensor
    u: torch.Tensor  # scaled dual, in units of x
    sigma: torch.Tensor  # (B,)


@dataclass(frozen=True, kw_only=True)
class REDADMM(Solver):
    """RED by ADMM (Romano, Elad & Milanfar 2017, §4.2), with ``inner`` fixed-point denoisings a step.

    x = prox_{nll/beta}(v − u); v solves w·(v − D(v, sigma)) + beta·(v − x − u) = 0 by repeating
    v ← (w·D(v, sigma) + beta·(x + u))/(w + beta); u ← u + x − v. w = lam/sigma² as in ``red``, whose fixed points it
    shares; beta = penalty·w. One inner denoising is enough (Reehorst & Schniter 2019).

    sigma : noise level for the denoiser, units of x; None is that of the noise per pixel of x.
    penalty : without units.
    """

    n_steps: PositiveInt = 50
    tol: NonNegativeFloat | None = None
    lam: PositiveFloat = 0.23
    sigma: PositiveFloat | None = None
    penalty: PositiveFloat = 1.0
    inner: PositiveInt = 1

    needs = NEEDS

    def init(self, problem: Problem, prior: Any, rng: torch.Generator, x0: torch.Tensor | None = None) -> REDADMMState:
        x = start(problem, x0, rng)
        return REDADMMState(x, x, torch.zeros_like(x), given_or_noise(problem, prior, self.sigma))

    def step(self, problem: Problem, prior: Any, state: REDADMMState, k: int, rng: torch.Generator):
        v, sigma = state.v, state.sigma
        x = problem.prox(v - state.u, sigma**2 / (self.lam * self.penalty))
        target = x + state.u
        for _ in range(self.inner):
            v = (on_x(prior).denoise(v, sigma) + self.penalty * target) / (1 + self.penalty)
        return REDADMMState(x, v, target - v, sigma), {"sigma": sigma}

    @classmethod
    def example(cls) -> Self:
        return cls(n_steps=30)
