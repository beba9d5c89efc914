"""Noise levels that denoisers are called at: pure functions, one value per sample."""

from typing import Any

import torch

from pnpkit.likelihoods import randn_like
from pnpkit.linalg import expand, inner
from pnpkit.priors.base import Denoiser, PosteriorDenoiser
from pnpkit.problem import Problem
from pnpkit.solvers.steps import on_x

WIDEST = 49 / 255  # of the images' range: where DPIR starts
NOISIEST = 10.0  # of the images' range: where nothing of an image is left
CLEANEST = 2e-3  # of the images' range: what is then left of the noise is not seen


def log_spaced(first: torch.Tensor, last: torch.Tensor, n: int) -> torch.Tensor:
    """(n, B): n values from first to last, (B,) each, equally spaced in the logarithm; last when n = 1."""
    fraction = torch.linspace(0, 1, n, dtype=first.dtype, device=first.device)[:-1, None]
    return torch.cat([first * (last / first) ** fraction, last[None]])


def fitted(prior: Any, sigma: torch.Tensor) -> torch.Tensor:
    """``sigma`` moved into the denoiser's range; as it is for other priors."""
    part = on_x(prior)
    return sigma.clamp(*part.domain.sigma_range) if isinstance(part, Denoiser | PosteriorDenoiser) else sigma


def given_or_noise(problem: Problem, prior: Any, sigma: float | None) -> torch.Tensor:
    """``sigma`` for every sample, the noise level where it is None; fitted to the denoiser, (B,)."""
    level = problem.noise_level
    return fitted(prior, level if sigma is None else torch.full_like(level, sigma))


def width(prior: Any, x: torch.Tensor) -> torch.Tensor:
    """The denoiser's value range, where it has one; else max |x|, (B,)."""
    domain = getattr(on_x(prior), "domain", None)
    if domain is not None and domain.value_range is not None:
        return x.real.new_full((x.shape[0],), domain.value_range[1] - domain.value_range[0])
    return x.abs().flatten(1).amax(1)


def diffusion_levels(
    prior: Any, x: torch.Tensor, n: int, first: float | None, last: float | None, rho: float = 7.0
) -> torch.Tensor:
    """(n + 1, B): n noise levels from ``first`` to ``last``, equally spaced in sigma^(1/rho), then 0 (EDM, eq. 5).

    None: 10 and 0.002 times the denoiser's value range, else of max |x|. Fitted into the denoiser's range.
    """
    size = width(prior, x)
    size = torch.where(size > 0, size, torch.ones_like(size))
    high = fitted(prior, NOISIEST * size if first is None else torch.full_like(size, first))
    low = torch.minimum(fitted(prior, CLEANEST * size if last is None else torch.full_like(size, last)), high)
    return torch.cat([fitted(prior, spaced(high, low, n, rho)), torch.zeros_like(size)[None]])


def spaced(first: torch.Tensor, last: torch.Tensor, n: int, rho: float) -> torch.Tensor:
    """(n, B): n values from first to last, (B,) each, equally spaced in their 1/rho-th power."""
    ramp = torch.linspace(0, 1, n, dtype=first.dtype, device=first.device)[:, None]
    return (first ** (1 / rho) + ramp * (last ** (1 / rho) - first ** (1 / rho))) ** rho


def given_or_widest(prior: Any, sigma: float | None, x: torch.Tensor) -> torch.Tensor:
    """``sigma`` for every sample, else 49/255 of the denoiser's value range, else of max |x|; fitted, (B,)."""
    domain = getattr(on_x(prior), "domain", None)
    if sigma is None and domain is not None and domain.value_range is not None:
        sigma = WIDEST * (domain.value_range[1] - domain.value_range[0])
    if sigma is None:
        return fitted(prior, WIDEST * x.abs().flatten(1).amax(1))
    return fitted(prior, x.real.new_full((x.shape[0],), sigma))


def prior_energy(
    prior: Any, x: torch.Tensor, lowest: torch.Tensor, rng: torch.Generator, n: int = 12, repeats: int = 2
) -> torch.Tensor:
    """−log p(x) of a denoiser's prior up to a constant, (B,), on the scales above ``lowest`` (B,).

    −log p(x) = const + ½·∫ E‖x − D(x + n/√γ, 1/√γ)‖² dγ (Kong et al. 2023, arXiv 2302.03792, eq. 8, by I-MMSE), the
    integral by ``n`` levels, equally spaced in their logarithm up to the range of x, and ``repeats`` noises; the same
    for all samples of a batch, so that differences between them are less noisy.
    """
    part = on_x(prior)
    high = torch.maximum(fitted(part, width(part, x)).nan_to_num(0), 2 * lowest)  # NaN: a chain that has diverged
    levels = [fitted(part, s) for s in log_spaced(high, lowest, n)]
    precision = torch.stack(levels) ** -2
    edges = torch.cat([precision[:1] * 0, (precision[1:] * precision[:-1]).sqrt(), precision[-1:]])
    total = torch.zeros_like(high)
    for level, step in zip(levels, edges.diff(dim=0), strict=True):
        for _ in range(repeats):
            noise = randn_like(x[:1], rng).expand_as(x)
            away = x - part.denoise(x + expand(level, x) * noise, level)
            total = total + 0.5 / repeats * step * inner(away, away)
    return total
