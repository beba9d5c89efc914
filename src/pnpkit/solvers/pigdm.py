"""Pseudo-inverse guided diffusion."""

from dataclasses import dataclass

from pnpkit.linalg import norm
from pnpkit.solvers.diffusion import GuidedDiffusion, pulled, share
from pnpkit.solvers.steps import denoised_with_vjp


@dataclass(frozen=True, kw_only=True)
class PiGDM(GuidedDiffusion):
    """ΠGDM: p(x0 | x_t) is taken as N(D(x_t), r²·I), and the score of y given x_t follows (Song et al. 2023, eqs. 7–8).

    E[x0 | x_t, y] = D + σ²/r²·Jᴴ(prox_{r²·nll}(D) − D), J = ∂D/∂x: the prox holds their inverse of r²·AAᴴ + σ_y²·I for
    any linear operator. They set r² = σ²/(1 + σ²), for images of unit variance; here it is the variance of x0 given x_t
    along the last step's prox − D, which makes the estimate exact for a white Gaussian prior.
    """

    needs = {"operator": ("linear",), "prior": ("denoise",), "likelihood": ("gaussian",)}

    def estimate(self, problem, prior, x, sigma, variance, rng):
        clean, back = denoised_with_vjp(prior, x, sigma)
        pull = problem.prox(clean, variance) - clean
        slope = back(pull)
        return pulled(clean, slope, sigma**2 / variance, norm(pull)), clean, share(pull, slope)
