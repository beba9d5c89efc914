"""Diffusion posterior sampling."""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import PositiveFloat

from pnpkit.linalg import expand, norm
from pnpkit.solvers.diffusion import GuidedDiffusion, pulled, share
from pnpkit.solvers.steps import curvature, data_gradient, denoised_with_vjp


@dataclass(frozen=True, kw_only=True)
class DPS(GuidedDiffusion):
    """The data gradient at D(x_t), taken through the denoiser (Chung et al. 2023, algorithm 1). Any operator and noise.

    Their step is ``weight`` over the residual norm, whose meaning depends on image size, scale and number of steps.
    The default is in posterior units, a reconstruction: log p(y | x_t) is taken as Gaussian about A(D(x_t)) with the
    noise and the uncertainty r² of D(x_t), so that the step is 1/(1 + r²·κ) of ∇nll, κ the curvature of nll along its
    gradient and r² the variance of x0 given x_t along it, as the last step knew it; never farther than to the least
    nll along it, as a network's slope may be far off. It approximates the posterior and does not claim to be it.

    weight : of the guidance; 1 is the posterior's.
    guidance : "posterior", or "norm": their rule, x_t − weight·(1 + (σ_t/s)²)·∇‖y − A(D)‖ after every step, s half the
        value range; it was made for 1000 steps, and its noise model is Gaussian.
    """

    weight: PositiveFloat = 1.0
    guidance: Literal["posterior", "norm"] = "posterior"

    needs = {"prior": ("denoise",)}

    def estimate(self, problem, prior, x, sigma, variance, rng):
        clean, back = denoised_with_vjp(prior, x, sigma)
        gradient = data_gradient(problem, clean)
        steep = curvature(problem, clean, gradient)
        size = self.weight * sigma**2 / (1 + variance * steep)
        slope = back(gradient)
        return pulled(clean, gradient, slope, steep, size), clean, share(gradient, slope)

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
