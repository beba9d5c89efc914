"""DDRM: denoising diffusion restoration in the singular basis of the operator."""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field

from pnpkit.likelihoods import randn_like
from pnpkit.linalg import expand
from pnpkit.operators.spectrum import Spectrum
from pnpkit.solvers.diffusion import DiffusionSampler
from pnpkit.solvers.steps import on_x


@dataclass(frozen=True, kw_only=True)
class DDRM(DiffusionSampler):
    """Each singular direction is denoised as its own noise level asks (Kawar et al. 2022, eqs. 7–8).

    With ȳ = s⁺Uᴴy, whose noise is σ_y/s, and D = D(x_t, σ_t): directions with s = 0 move along D; those noisier than
    the next level σ are pulled towards ȳ; those cleaner take eta_b·ȳ + (1 − eta_b)·D. Needs an operator whose singular
    values are cheap. No network gradient: one call a step.

    eta, eta_b : their η = 0.85 and η_b = 1.
    """

    eta: Annotated[float, Field(ge=0, le=1)] = 0.85
    eta_b: Annotated[float, Field(ge=0, le=1)] = 1.0

    needs = {"operator": ("spectral",), "prior": ("denoise",), "likelihood": ("gaussian",)}

    def init(self, problem, prior, rng, x0=None):
        """x_T: ȳ where the data know better than the first level, a first image elsewhere, with noise up to it."""
        state = super().init(problem, prior, rng, x0)
        spectrum, level, y = spectral(problem)
        first = state.levels[0]

        def known(d: torch.Tensor) -> torch.Tensor:  # 1 where sigma_y/s is below the first level
            return (d * expand(first**2, d) > expand(level**2, d)).to(d.dtype)

        def rest(d: torch.Tensor) -> torch.Tensor:  # the noise that is still missing there
            left = expand(first**2, d) - expand(level**2, d) / torch.where(d > 0, d, 1)
            return torch.where(known(d) > 0, left.clamp_min(0).sqrt(), expand(first, d) + 0 * d)

        x = spectrum.data(y, known) + spectrum.image(state.x, lambda d: 1 - known(d))
        return state._replace(noisy=x + spectrum.image(randn_like(x, rng), rest))

    def step(self, problem, prior, state, k, rng):
        now, then = state.levels[k], state.levels[k + 1]
        spectrum, level, y = spectral(problem)
        clean = on_x(prior).denoise(state.noisy, now)
        spared = (1 - self.eta**2) ** 0.5

        def parts(d: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            """(s = 0, noisier than the next level, cleaner): masks."""
            zero = d == 0
            cleaner = ~zero & (d * expand(then**2, d) >= expand(level**2, d))
            return zero, ~zero & ~cleaner, cleaner

        def along(d: torch.Tensor) -> torch.Tensor:  # weight of x_t − D
            return parts(d)[0] * expand(spared * then / now, d)

        def towards(d: torch.Tensor) -> torch.Tensor:  # weight of ȳ − D
            _, noisier, cleaner = parts(d)
            return noisier * spared * d.sqrt() * expand(then / level, d) + cleaner * self.eta_b

        def fresh(d: torch.Tensor) -> torch.Tensor:  # standard deviation of the noise
            _, _, cleaner = parts(d)
            left = expand(then**2, d) - self.eta_b**2 * expand(level**2, d) / torch.where(d > 0, d, 1)
            return torch.where(cleaner, left.clamp_min(0).sqrt(), self.eta * expand(then, d) + 0 * d)

        x = clean + spectrum.image(state.noisy - clean, along)
        x = x + spectrum.data(y, towards) - spectrum.image(clean, towards)
        x = x + spectrum.image(randn_like(x, rng), fresh)
        return state._replace(x=x if k + 1 == self.n_steps else clean, noisy=x), {"sigma": now}


def spectral(problem):
    """(spectrum of A, standard deviation of its noise (B,), y), where per-element noise is put into A and y."""
    operator, y, weight = problem.whitened
    level = torch.as_tensor(weight, dtype=operator.dtype, device=problem.device).rsqrt().expand(problem.batch)
    return Spectrum(operator), level, y
