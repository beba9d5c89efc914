"""DAPS: decoupled annealing."""

from dataclasses import dataclass
from itertools import pairwise

from pydantic import PositiveInt

from pnpkit.likelihoods import randn_like
from pnpkit.linalg import expand
from pnpkit.solvers.diffusion import DiffusionSampler, moved, variance_at
from pnpkit.solvers.langevin import conditional
from pnpkit.solvers.schedules import log_spaced
from pnpkit.solvers.steps import on_x


@dataclass(frozen=True, kw_only=True)
class DAPS(DiffusionSampler):
    """A draw of x0 from N(x0; x̂0(x_t), r²)·p(y | x0), then noise of the next level, whatever x_t was.

    Zhang et al. 2024 (arXiv 2407.01521), algorithm 1. Any operator and noise: the draw is exact where the data term is
    quadratic, Langevin steps elsewhere. They take x̂0 from five steps of the probability flow and r = σ_t; here the
    default is x̂0 = D(x_t) with r² its measured variance, which is the posterior itself for a white Gaussian prior and
    costs one network call a step (a reconstruction).

    ode_steps : steps of the probability flow from x_t to x̂0; 1 is D(x_t).
    inner_steps : Langevin steps where the draw is not exact.
    """

    ode_steps: PositiveInt = 1
    inner_steps: PositiveInt = 50

    needs = {"prior": ("denoise",)}

    def step(self, problem, prior, state, k, rng):
        now, then = state.levels[k], state.levels[k + 1]
        clean = on_x(prior).denoise(state.noisy, now)
        centre = self._flow(prior, state.noisy, clean, now, state.levels[-2], rng)
        precision = self.remeasured(prior, state, clean, k, rng)
        x = conditional(problem, centre, variance_at(now, precision), self.inner_steps, rng)
        noisy = x + expand(then, x) * randn_like(x, rng)
        return state._replace(x=x, noisy=noisy, precision=precision), {"sigma": now}

    def _flow(self, prior, x, clean, now, last, rng):
        """Where the probability flow from x ends."""
        if self.ode_steps == 1:
            return clean
        levels = log_spaced(now, last.minimum(now), self.ode_steps)
        for a, b in pairwise(levels):
            x = moved(x, clean, a, b, 0.0, rng)
            clean = on_x(prior).denoise(x, b)
        return clean
