"""Annealed Langevin dynamics."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, PositiveInt

from pnpkit.likelihoods import randn_like
from pnpkit.linalg import expand
from pnpkit.solvers.diffusion import DiffusionSampler
from pnpkit.solvers.steps import data_gradient, on_x, steepest


@dataclass(frozen=True, kw_only=True)
class AnnealedLangevin(DiffusionSampler):
    """Langevin steps on p_σ(x)·p(y | x) at falling noise levels σ.

    Song & Ermon 2019; for inverse problems Jalal et al. 2021. At level σ the data term is softened to a noise of σ_y² +
    σ²·κ, κ·σ_y² being the largest squared gain of A (Jalal et al. soften it by a tuned γ_σ). Any operator and noise.

    inner_steps : Langevin steps at each level.
    relative_step : the step is relative_step·σ²/2, half the longest stable one times it; in (0, 2).
    temperature : variance of the noise put in, in units of Langevin's. Networks see no difference between their own
        errors and the image, and a chain gathers them from level to level; a long step with less noise forgets them,
        for draws that vary too little (Kadkhodaie & Simoncelli 2021; 1.4 and 0.65 are good on photographs).
    """

    inner_steps: PositiveInt = 5
    relative_step: Annotated[float, Field(gt=0, lt=2)] = 1.0
    temperature: Annotated[float, Field(gt=0, le=1)] = 1.0

    needs = {"prior": ("denoise",)}

    def step(self, problem, prior, state, k, rng):
        sigma, x = state.levels[k], state.noisy
        size = 0.5 * self.relative_step * sigma**2
        for _ in range(self.inner_steps):
            gradient = data_gradient(problem, x)
            softened = gradient / expand(1 + sigma**2 * steepest(problem, x, gradient), x)
            drift = (on_x(prior).denoise(x, sigma) - x) / expand(sigma**2, x) - softened
            x = x + expand(size, x) * drift + expand((2 * self.temperature * size).sqrt(), x) * randn_like(x, rng)
        return state._replace(x=x, noisy=x), {"sigma": sigma}
