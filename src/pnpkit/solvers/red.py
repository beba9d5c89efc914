"""Regularisation by denoising: gradient descent, and what the RED solvers share."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from pnpkit.linalg import expand
from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver
from pnpkit.solvers.steps import fitted_sigma, noise_level, on_x, start


class REDState(NamedTuple):
    x: torch.Tensor
    sigma: torch.Tensor  # (B,)


NEEDS = {"operator": ("linear",), "prior": ("denoise",), "likelihood": ("gaussian",)}


def red_sigma(problem: Problem, prior: Any, sigma: float | None) -> torch.Tensor:
    """The denoiser's strength, (B,): given, or the noise level in units of x; fitted into its range."""
    wanted = float(noise_level(problem).min()) if sigma is None else sigma
    return torch.full((problem.batch,), fitted_sigma(prior, wanted), dtype=problem.in_dtype.to_real(), device=problem.device)


@dataclass(frozen=True, kw_only=True)
class RED(Solver):
    """x+ = x − γ·(∇nll(x) + w·(x − D(x, sigma))), w = strength·L: RED by gradient descent (Romano, Elad & Milanfar 2017, eq. 35).

    L = ‖A‖²/sigma_y² and γ = 1/(L + w), so ``strength`` has no units: the weight of the residual x − D(x) against
    the strongest direction of the data. A fixed point solves ∇nll(x) + w·(x − D(x)) = 0, which for denoisers without
    symmetric Jacobian is no minimum (Reehorst & Schniter 2019).

    sigma : strength of the denoiser, units of x; None takes the noise level in units of x.
    """

    n_steps: PositiveInt = 200
    tol: NonNegativeFloat | None = None
    strength: PositiveFloat = 0.2
    sigma: PositiveFloat | None = None

    needs = NEEDS

    def init(self, problem: Problem, prior: Any, rng: torch.Generator, x0: torch.Tensor | None = None) -> REDState:
        return REDState(start(problem, x0, rng), red_sigma(problem, prior, self.sigma))

    def step(self, problem: Problem, prior: Any, state: REDState, k: int, rng: torch.Generator):
        x, sigma = state
        w = self.strength * problem.lipschitz
        residual = x - on_x(prior).denoise(x, sigma)
        gradient = problem.grad(x) + expand(w, x) * residual
        return REDState(x - gradient / expand(problem.lipschitz + w, x), sigma), {"sigma": sigma}

    @classmethod
    def example(cls) -> Self:
        return cls(n_steps=30)
