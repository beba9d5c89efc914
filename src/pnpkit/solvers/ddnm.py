"""DDNM+: the range of the operator from the data, its null space from the denoiser."""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field

from pnpkit.likelihoods import randn_like
from pnpkit.linalg import expand
from pnpkit.solvers.ddrm import spectral
from pnpkit.solvers.diffusion import DiffusionSampler
from pnpkit.solvers.steps import on_x


@dataclass(frozen=True, kw_only=True)
class DDNM(DiffusionSampler):
    """x0 = D + Λ(A⁺y − A⁺A D), with as much less fresh noise as Λ lets noise of y in (Wang et al. 2023, DDNM+, §3.3).

    Per singular value s: Λ = min(1, f·s/(a·σ_y)), with f the standard deviation of DDIM's fresh noise and a the share
    of x0 in the next x_t; the noise then added has variance f² − (a·Λ·σ_y/s)². Without noise in the data Λ = 1: DDNM.
    Needs an operator whose singular values are cheap. No network gradient: one call a step.

    eta : share of fresh noise; their code has 0.85.
    """

    eta: Annotated[float, Field(ge=0, le=1)] = 0.85

    needs = {"operator": ("spectral",), "prior": ("denoise",), "likelihood": ("gaussian",)}

    def step(self, problem, prior, state, k, rng):
        now, then = state.levels[k], state.levels[k + 1]
        spectrum, level = spectral(problem)
        clean = on_x(prior).denoise(state.noisy, now)
        fresh = self.eta * then * (1 - (then / now) ** 2).sqrt()
        keep = (then**2 - fresh**2).clamp_min(0).sqrt() / now
        passed = (1 - keep) * level  # times Λ/s: noise of y in the next x_t

        def towards(d: torch.Tensor) -> torch.Tensor:  # Λ
            return (expand(fresh / passed, d) * d.sqrt()).clamp(max=1.0)

        def missing(d: torch.Tensor) -> torch.Tensor:
            let_in = expand(passed, d) * towards(d) / torch.where(d > 0, d, 1).sqrt()
            return (expand(fresh, d) ** 2 - torch.where(d > 0, let_in, 0) ** 2).clamp_min(0).sqrt()

        x0 = clean + spectrum.data(problem._whitened[1], towards) - spectrum.image(clean, towards)
        x = x0 + expand(keep, x0) * (state.noisy - x0) + spectrum.image(randn_like(x0, rng), missing)
        return state._replace(x=x if k + 1 == self.n_steps else x0, noisy=x), {"sigma": now}
