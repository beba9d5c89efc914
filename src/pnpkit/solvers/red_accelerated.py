"""RED by accelerated proximal gradient."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver
from pnpkit.solvers.red import NEEDS, red_sigma
from pnpkit.solvers.steps import on_x, start


class REDAcceleratedState(NamedTuple):
    x: torch.Tensor
    v: torch.Tensor  # what the next data step starts from
    z: torch.Tensor  # the last extrapolated point
    t: float
    sigma: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class REDAccelerated(Solver):
    """RED-APG (Reehorst & Schniter 2019, algorithm 6): x = prox of nll at v; z = x + momentum; v = D(z)/l + (1 − 1/l)·z.

    ``relaxation`` is their l ≥ 1; w = strength·L as in ``RED``. The data prox is taken at 1/(w·l).
    """

    n_steps: PositiveInt = 50
    tol: NonNegativeFloat | None = None
    strength: PositiveFloat = 0.2
    sigma: PositiveFloat | None = None
    relaxation: PositiveFloat = 1.0

    needs = NEEDS

    def init(self, problem: Problem, prior: Any, rng: torch.Generator, x0: torch.Tensor | None = None):
        x = start(problem, x0, rng)
        sigma = red_sigma(problem, prior, self.sigma)
        return REDAcceleratedState(x, self._target(prior, x, sigma), x, 1.0, sigma)

    def _target(self, prior: Any, z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return on_x(prior).denoise(z, sigma) / self.relaxation + (1 - 1 / self.relaxation) * z

    def step(self, problem: Problem, prior: Any, state: REDAcceleratedState, k: int, rng: torch.Generator):
        tau = 1 / (self.strength * self.relaxation * problem.lipschitz)
        x = problem.prox(state.v, tau)
        t = (1 + (1 + 4 * state.t**2) ** 0.5) / 2
        z = x + ((state.t - 1) / t) * (x - state.x)
        last = k == self.n_steps - 1  # nothing would use another denoised point
        v = state.v if last else self._target(prior, z, state.sigma)
        return REDAcceleratedState(x, v, z, t, state.sigma), {"sigma": state.sigma}

    @classmethod
    def example(cls) -> Self:
        return cls(n_steps=30)
