"""Annealed Langevin dynamics."""

from dataclasses import dataclass

from pydantic import PositiveInt

from pnpkit.likelihoods import randn_like
from pnpkit.linalg import expand
from pnpkit.solvers.diffusion import DiffusionSampler
from pnpkit.solvers.steps import data_gradient, on_x, steepest

MOMENTUM = 0.5  # with it steps of sigma² and noise of sigma have the temperature of the posterior
SOFTENING = 4.0  # of the data term; above 2 no direction is unstable


@dataclass(frozen=True, kw_only=True)
class AnnealedLangevin(DiffusionSampler):
    """Langevin steps with momentum on p_σ(x)·p(y | x) at falling noise levels σ.

    Song & Ermon 2019; for inverse problems Jalal et al. 2021, who soften the data term by a tuned γ_σ; here to a noise
    of σ_y² + 4·σ²·κ, κ·σ_y² being the largest squared gain of A. Any operator and noise. With x̂ = D(x) − σ²·∇nll, x
    moves to x̂ + ½·(x̂ − x̂_before) + σ·n (a reconstruction), σ being the level of the next call: a network sees the noise
    that it is told of. Plain Langevin steps leave more of it, which a trained network takes for image.

    inner_steps : Langevin steps at each level.
    """

    inner_steps: PositiveInt = 5

    needs = {"prior": ("denoise",)}

    def step(self, problem, prior, state, k, rng):
        sigma, x, before = state.levels[k], state.noisy, state.x if k else None
        for j in range(self.inner_steps):
            gradient = data_gradient(problem, x)
            softened = gradient / expand(1 + SOFTENING * sigma**2 * steepest(problem, x, gradient), x)
            estimate = on_x(prior).denoise(x, sigma) - expand(sigma**2, x) * softened
            ahead = estimate if before is None else estimate + MOMENTUM * (estimate - before)
            level = sigma if j + 1 < self.inner_steps else state.levels[k + 1]
            x, before = ahead + expand(level, x) * randn_like(x, rng), estimate
        return state._replace(x=x if k + 1 == self.n_steps else before, noisy=x), {"sigma": sigma}
