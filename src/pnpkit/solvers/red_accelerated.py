"""RED by accelerated proximal gradient."""

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, Self

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from pnpkit.linalg import expand
from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver
from pnpkit.solvers.fista import accelerated
from pnpkit.solvers.red import NEEDS
from pnpkit.solvers.schedules import given_or_noise
from pnpkit.solvers.steps import on_x, start


class REDAcceleratedState(NamedTuple):
    x: torch.Tensor
    z: torch.Tensor  # the extrapolated point
    t: torch.Tensor  # momentum counter, (B,)
    sigma: torch.Tensor  # (B,)


@dataclass(frozen=True, kw_only=True)
class REDAccelerated(Solver):
    """RED-APG: v = D(z, sigma)/l + (1 − 1/l)·z, x+ = prox_{nll/(w·l)}(v), z = x+ + β·(x+ − x).

    Reehorst & Schniter (2019): FISTA with the roles exchanged, gradient steps of length 1/(w·l) on RED's regulariser
    and prox steps on the data. w = lam/sigma² as in ``red``, whose fixed points it shares. Momentum β restarts, per
    sample, where it points against the step (O'Donoghue & Candès 2015, §3.2; not in the paper): with a denoiser that
    is not a contraction it might run away.

    relaxation : their l ≥ 1; l = 1 is ``red_fixed_point`` with momentum, larger ones are more cautious.
    sigma : noise level for the denoiser, units of x; None is that of the noise per pixel of x.
    """

    n_steps: PositiveInt = 50
    tol: NonNegativeFloat | None = None
    lam: PositiveFloat = 0.23
    sigma: PositiveFloat | None = None
    relaxation: Annotated[float, Field(ge=1)] = 1.0

    needs = NEEDS

    def init(self, problem: Problem, prior: Any, rng: torch.Generator, x0: torch.Tensor | None = None):
        x = start(problem, x0, rng)
        sigma = given_or_noise(problem, prior, self.sigma)
        return REDAcceleratedState(x, x, torch.ones_like(sigma), sigma)

    def step(self, problem: Problem, prior: Any, state: REDAcceleratedState, k: int, rng: torch.Generator):
        x, z, t, sigma = state
        denoised = on_x(prior).denoise(z, sigma)
        v = denoised if self.relaxation == 1 else z + (denoised - z) / self.relaxation
        new = problem.prox(v, sigma**2 / (self.lam * self.relaxation))
        momentum, t, back = accelerated(x, z, new, t)
        z = new + expand(momentum, x) * (new - x)
        return REDAcceleratedState(new, z, t, sigma), {"sigma": sigma, "restart": back.to(t.dtype)}

    @classmethod
    def example(cls) -> Self:
        return cls(n_steps=30)
