"""Sampling with a posterior denoiser: plain reverse diffusion, as the data are in the denoiser."""

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt

from pnpkit.errors import SpecError
from pnpkit.linalg import expand
from pnpkit.solvers.diffusion import EstimateSteps, extrapolated
from pnpkit.solvers.steps import on_x


@dataclass(frozen=True, kw_only=True)
class PosteriorSampler(EstimateSteps):
    """Reverse diffusion along E[x0 | x_t, y], in 1 to 50 steps; exact in the limit of many, for an exact denoiser.

    The score of the posterior at noise level σ is (E[x0 | x_t, y] − x_t)/σ² (Tweedie, conditional), so the data are
    followed without any guidance. With n_steps = 1 the result is the posterior mean E[x0 | y], the estimate of least
    squared error; with more steps a draw, sharper and of a lower PSNR; ``chains=N`` gives N draws and their mean.

    method : "multistep" extrapolates from the last two estimates (DPM-Solver++ 2M), "ddim" does not; "heun" corrects
        every step but the last by the slope at its end, at two calls a step (EDM, algorithm 1; eta = 0).
    eta : share of fresh noise, 0 the probability flow, 1 as in DDPM.
    """

    n_steps: PositiveInt = 10
    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    method: Literal["multistep", "ddim", "heun"] = "multistep"

    needs = {"operator": ("linear",), "prior": ("posterior_denoise",), "likelihood": ("gaussian",)}
    exact = True

    def init(self, problem, prior, rng, x0=None):
        if self.method == "heun" and self.eta:
            raise SpecError(f"PosteriorSampler: heun follows the probability flow, eta = 0; given {self.eta:g}.")
        return super().init(problem, prior, rng, x0)

    def step(self, problem, prior, state, k, rng):
        denoise = on_x(prior).given(problem)
        now, then = state.levels[k], state.levels[k + 1]
        clean = denoise(state.noisy, now)
        ahead = clean
        if self.method == "multistep" and k > 0:
            ahead = extrapolated(clean, state.x, state.levels[k - 1], now, then)
        elif self.method == "heun" and k + 1 < self.n_steps:
            tried = self.moved(state.noisy, clean, now, then, rng)
            slope, end = (
                (state.noisy - clean) / expand(now, clean),
                (tried - denoise(tried, then)) / expand(then, clean),
            )
            ahead = state.noisy - expand(now, clean) * 0.5 * (slope + end)  # leads along the mean of both
        noisy = self.moved(state.noisy, ahead, now, then, rng)
        return state._replace(x=noisy if k + 1 == self.n_steps else clean, noisy=noisy), {"sigma": now}

    @classmethod
    def example(cls) -> Self:
        return cls(n_steps=60)
