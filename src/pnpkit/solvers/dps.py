"""Diffusion posterior sampling."""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import PositiveFloat

from pnpkit.linalg import expand, norm
from pnpkit.solvers.diffusion import GuidedDiffusion, pulled, share, spread, way_down
from pnpkit.solvers.steps import data_pull, denoised_with_vjp


@dataclass(frozen=True, kw_only=True)
class DPS(GuidedDiffusion):
    """The data gradient at D(x_t), taken through the denoiser (Chung et al. 2023, algorithm 1). Any operator and noise.

    Their step is ``weight`` over the residual norm, whose meaning depends on image size, scale and number of steps.
    The default is in posterior units, a reconstruction: log p(y | x_t) is taken as Gaussian about A(D(x_t)) with the
    noise and the uncertainty that x0 given x_t leaves in the data along their misfit, c times the noise's variance, so
    that the step is 1/(1 + c) of ∇nll; never farther than thrice the way down it, as a network's slope may be far off.
    It approximates the posterior and does not claim to be it.

    weight : of the guidance; 1 is the posterior's.
    guidance : "posterior", or "norm": their rule, x_t − weight·(1 + (σ_t/s)²)·∇‖y − A(D)‖ after every step, s half the
        value range; it was made for 1000 steps, and its noise model is Gaussian.
    """

    weight: PositiveFloat = 1.0
    guidance: Literal["posterior", "norm"] = "posterior"

    needs = {"prior": ("denoise",)}

    def estimate(self, problem, prior, x, sigma, variance, rng):
        clean, back = denoised_with_vjp(prior, x, sigma)
        gradient, misfit = data_pull(problem, clean)
        slope = back(gradient)
        size = self.weight * sigma**2 / (1 + spread(gradient, slope, sigma, misfit))
        return pulled(clean, -slope, size, way_down(gradient, misfit)), clean, share(gradient, slope)

    def step(self, problem, prior, state, k, rng):
        if self.guidance == "posterior":
            return super().step(problem, prior, state, k, rng)
        now, then = state.levels[k], state.levels[k + 1]
        clean, back = denoised_with_vjp(prior, state.noisy, now)
        residual = problem.operator(clean) - problem.y
        slope = back(problem.operator.vjp(clean, residual / expand(norm(residual).clamp_min(1e-30), residual)))
        size = self.weight * (1 + (2 * now / state.scale) ** 2)
        noisy = self.moved(state.noisy, clean, now, then, rng)
        noisy = noisy - expand(torch.where(then > 0, size, 0), slope) * slope
        return state._replace(x=noisy if k + 1 == self.n_steps else clean, noisy=noisy), {"sigma": now}
