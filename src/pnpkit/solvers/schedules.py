"""Noise levels that denoisers are called at: pure functions, one value per sample."""

from typing import Any

import torch

from pnpkit.priors.base import Denoiser
from pnpkit.problem import Problem
from pnpkit.solvers.steps import on_x

WIDEST = 49 / 255  # of the images' range: where DPIR starts


def log_spaced(first: torch.Tensor, last: torch.Tensor, n: int) -> torch.Tensor:
    """(n, B): n values from first to last, (B,) each, equally spaced in the logarithm; last when n = 1."""
    fraction = torch.linspace(0, 1, n, dtype=first.dtype, device=first.device)[:-1, None]
    return torch.cat([first * (last / first) ** fraction, last[None]])


def fitted(prior: Any, sigma: torch.Tensor) -> torch.Tensor:
    """``sigma`` moved into the denoiser's range; as it is for other priors."""
    part = on_x(prior)
    return sigma.clamp(*part.domain.sigma_range) if isinstance(part, Denoiser) else sigma


def noise_level(problem: Problem) -> torch.Tensor:
    """Standard deviation of the noise per pixel of x, (B,); Gaussian noise, linear operator.

    sigma_y/‖A‖·√(m/n) for fewer measurements m than pixels n (×2 super-resolution: ‖A‖ ≈ 1/2, m = n/4, so sigma_y),
    sigma_y/‖A‖ for more.
    """
    measured, pixels = (torch.Size(shape).numel() for shape in (problem.operator.out_shape, problem.in_shape))
    return problem.lipschitz.rsqrt() * min(1.0, measured / pixels) ** 0.5


def given_or_noise(problem: Problem, prior: Any, sigma: float | None) -> torch.Tensor:
    """``sigma`` for every sample, the noise level where it is None; fitted to the denoiser, (B,)."""
    level = noise_level(problem)
    return fitted(prior, level if sigma is None else torch.full_like(level, sigma))


def given_or_widest(prior: Any, sigma: float | None, x: torch.Tensor) -> torch.Tensor:
    """``sigma`` for every sample, else 49/255 of the denoiser's value range, else of max |x|; fitted, (B,)."""
    domain = getattr(on_x(prior), "domain", None)
    if sigma is None and domain is not None and domain.value_range is not None:
        sigma = WIDEST * (domain.value_range[1] - domain.value_range[0])
    if sigma is None:
        return fitted(prior, WIDEST * x.abs().flatten(1).amax(1))
    return fitted(prior, x.real.new_full((x.shape[0],), sigma))
