"""DiffPIR: half-quadratic splitting along a reverse diffusion."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, PositiveFloat

from pnpkit.likelihoods import randn_like
from pnpkit.linalg import expand
from pnpkit.solvers.diffusion import GuidedDiffusion
from pnpkit.solvers.steps import on_x


@dataclass(frozen=True, kw_only=True)
class DiffPIR(GuidedDiffusion):
    """x0 = prox_{tau·nll}(D(x_t)), then noise of the next level (Zhu et al., CVPRW 2023, algorithm 1).

    No gradient passes through the denoiser, so a step costs one call of it and one prox.

    With the defaults all noise is fresh, so that the denoiser sees just the noise that it is told of. As the estimate
    is extrapolated by half its last change, steps are those of Langevin dynamics with momentum, whose variance is right
    for any Gaussian posterior in the limit of many steps (a reconstruction).

    lam : tau = σ_t²/lam, their rule (1 to 25 in their table). None: tau = r², the measured variance of x0 given x_t.
    zeta : share of fresh noise in the variance of the next x_t, the rest along the noise that is there; their ζ. None:
        as ``eta`` says; with lam = None too every step is exact for a white Gaussian prior.
    """

    lam: PositiveFloat | None = 1.0
    zeta: Annotated[float, Field(ge=0, le=1)] | None = 1.0

    needs = {"operator": ("linear",), "prior": ("denoise",), "likelihood": ("gaussian",)}

    @property
    def measures(self) -> bool:
        return self.lam is None

    def estimate(self, problem, prior, x, sigma, variance, rng):
        clean = on_x(prior).denoise(x, sigma)
        return problem.prox(clean, variance if self.lam is None else sigma**2 / self.lam), clean, None

    def moved(self, x, clean, now, then, rng):
        if self.zeta is None:
            return super().moved(x, clean, now, then, rng)
        x = clean + expand((1 - self.zeta) ** 0.5 * then / now, x) * (x - clean)
        return x + expand(self.zeta**0.5 * then, x) * randn_like(x, rng)
