"""RED-diff: a variational estimate regularised by denoising along the diffusion."""

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, Self

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from pnpkit.likelihoods import randn_like
from pnpkit.linalg import expand
from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver
from pnpkit.solvers.schedules import diffusion_levels, width
from pnpkit.solvers.steps import curvature, data_gradient, on_x, start

BETAS = (0.9, 0.99)  # of Adam


class REDDiffState(NamedTuple):
    x: torch.Tensor  # the mean of the variational Gaussian
    levels: torch.Tensor  # (n_steps + 1, B)
    scale: torch.Tensor  # (B,) value range of the images
    first: torch.Tensor  # running mean of gradients
    second: torch.Tensor  # and of their squared modulus
    steep: torch.Tensor  # (B,) the largest curvature of nll met


@dataclass(frozen=True, kw_only=True)
class REDDiff(Solver):
    """Adam on ∇nll(x)/L + lam·(x − D(x + σ_t·n, σ_t)), σ_t falling.

    Mardani et al. 2024, algorithm 1 with the weights of its eq. 12. Variational inference with a Gaussian of vanishing
    variance: one estimate near a mode, no draws. Their data term is ‖y − A x‖²/2 without its noise, here divided by its
    curvature L, so that neither the scale of A nor of y matters. Any operator and noise.

    lam : weight of the prior, 0.25 as published.
    rate : Adam's step in units of half the value range of the images, 0.1 as published for images in [-1, 1].
    sigma_start, sigma_end : as in ``dps``.
    """

    n_steps: PositiveInt = 100
    tol: NonNegativeFloat | None = None
    lam: PositiveFloat = 0.25
    rate: Annotated[float, Field(gt=0)] = 0.1
    sigma_start: PositiveFloat | None = None
    sigma_end: PositiveFloat | None = None

    needs = {"prior": ("denoise",)}
    scheduled = True

    def init(self, problem: Problem, prior: Any, rng: torch.Generator, x0: torch.Tensor | None = None) -> REDDiffState:
        x = start(problem, x0, rng)
        levels = diffusion_levels(prior, x, self.n_steps, self.sigma_start, self.sigma_end)
        zero = torch.zeros_like(x)
        return REDDiffState(x, levels, width(prior, x), zero, zero.abs(), torch.zeros_like(levels[0]))

    def step(self, problem: Problem, prior: Any, state: REDDiffState, k: int, rng: torch.Generator):
        x, sigma = state.x, state.levels[k]
        tiny = torch.finfo(sigma.dtype).tiny
        clean = on_x(prior).denoise(x + expand(sigma, x) * randn_like(x, rng), sigma)
        slope = data_gradient(problem, x)
        steep = torch.maximum(state.steep, curvature(problem, x, slope))
        gradient = slope / expand(steep.clamp_min(tiny), x) + self.lam * (x - clean)
        first = BETAS[0] * state.first + (1 - BETAS[0]) * gradient
        second = BETAS[1] * state.second + (1 - BETAS[1]) * gradient.abs().square()
        mean, square = first / (1 - BETAS[0] ** (k + 1)), second / (1 - BETAS[1] ** (k + 1))
        size = expand(0.5 * self.rate * state.scale, x)
        x = x - size * mean / (square.sqrt() + 1e-8 * size).clamp_min(tiny)
        return REDDiffState(x, state.levels, state.scale, first, second, steep), {"sigma": sigma}

    @classmethod
    def example(cls) -> Self:
        return cls(n_steps=30)
