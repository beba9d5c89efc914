"""Proximal gradient descent."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver
from pnpkit.solvers.steps import GROWTH, check_sigma, first_step, forward_backward, start


class PGDState(NamedTuple):
    x: torch.Tensor
    step: torch.Tensor  # γ, (B,)
    z: torch.Tensor | None  # A(x), kept where γ is searched


@dataclass(frozen=True, kw_only=True)
class PGD(Solver):
    """x+ = prox_{γh}(x − γ·∇nll(x)) (Combettes & Wajs 2005, eq. 3.4): any operator and noise model.

    With a Proximable it minimises nll + h (linear operators). With a denoiser it is PnP-PGD, x+ = D(x − γ·∇nll(x),
    sigma) (Kamilov, Mansour & Wohlberg 2017), whose strength does not follow γ.

    γ = relative_step/L, L = ‖A‖²/sigma_y², where the data term is quadratic; elsewhere it is searched as in
    ``gradient_descent``. Counts want a prior that keeps A(x) ≥ 0, such as ``box``, or a background.

    sigma : strength of a denoiser, in units of x, required for one; proximable priors carry their own weight.
    """

    n_steps: PositiveInt = 200
    tol: NonNegativeFloat | None = None
    relative_step: PositiveFloat = 1.0
    sigma: PositiveFloat | None = None

    needs = {"prior": ("prox|denoise",)}
    minimises = True

    def init(self, problem: Problem, prior: Any, rng: torch.Generator, x0: torch.Tensor | None = None) -> PGDState:
        check_sigma(prior, self.sigma)
        x = start(problem, x0, rng)
        return PGDState(x, *first_step(problem, x, self.relative_step))

    def step(self, problem: Problem, prior: Any, state: PGDState, k: int, rng: torch.Generator):
        x, z, used, _ = forward_backward(problem, state.x, state.z, state.step, prior, self.sigma)
        if z is None:
            return PGDState(x, used, None), {}
        return PGDState(x, GROWTH * used, z), {"step": used}

    @classmethod
    def example(cls) -> Self:
        return cls(n_steps=1500, sigma=0.1)
