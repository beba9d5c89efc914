"""Regularisation by denoising: gradient descent, and what the RED solvers share."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from pnpkit.linalg import expand
from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver
from pnpkit.solvers.schedules import given_or_noise
from pnpkit.solvers.steps import injected, on_x, start

NEEDS = {"operator": ("linear",), "prior": ("denoise",), "likelihood": ("gaussian",)}


class REDState(NamedTuple):
    x: torch.Tensor
    sigma: torch.Tensor  # (B,) what the denoiser is called at


@dataclass(frozen=True, kw_only=True)
class REDBase(Solver):
    """Settings and start of the RED solvers that keep nothing but x."""

    tol: NonNegativeFloat | None = None
    lam: PositiveFloat = 0.23
    sigma: PositiveFloat | None = None
    inject: NonNegativeFloat = 0.0

    needs = NEEDS

    def init(self, problem: Problem, prior: Any, rng: torch.Generator, x0: torch.Tensor | None = None) -> REDState:
        return REDState(start(problem, x0, rng), given_or_noise(problem, prior, self.sigma))

    def denoised(self, prior: Any, state: REDState, rng: torch.Generator) -> torch.Tensor:
        """D(x, sigma), with the noise put in before."""
        return on_x(prior).denoise(injected(state.x, state.sigma, self.inject, rng), state.sigma)

    @classmethod
    def example(cls) -> Self:
        return cls(n_steps=30)


@dataclass(frozen=True, kw_only=True)
class RED(REDBase):
    """x+ = x − γ·(∇nll(x) + w·(x − D(x, sigma))), w = lam/sigma², γ = 1/(L + w) (Romano, Elad & Milanfar 2017, §4.2).

    By Tweedie (x − D(x, sigma))/sigma² is the gradient of −log p_sigma(x), so a fixed point is stationary for
    nll − lam·log p_sigma: lam has no units and means the same as in ``hqs`` and ``admm``. The paper's deblurring
    settings (their lambda is w) are lam = 0.17 to 0.21. For denoisers without symmetric Jacobian there is no objective
    behind it (Reehorst & Schniter 2019). L = ‖A‖²/sigma_y²; with a non-expansive D the map is stable, since x − D(x)
    then has Lipschitz constant 2 at most and γ < 2/(L + 2w).

    sigma : noise level for the denoiser, units of x; None is that of the noise per pixel of x.
    inject : noise put in before each denoising, in units of its sigma; 1 is SGPnP (arXiv 2604.03603), which fills large
        holes that the deterministic method, 0, leaves.
    """

    n_steps: PositiveInt = 200

    def step(self, problem: Problem, prior: Any, state: REDState, k: int, rng: torch.Generator):
        x, sigma = state
        w = self.lam / sigma**2
        gradient = problem.grad(x) + expand(w, x) * (x - self.denoised(prior, state, rng))
        return REDState(x - gradient / expand(problem.lipschitz + w, x), sigma), {"sigma": sigma}
