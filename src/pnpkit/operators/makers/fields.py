"""Moments of Gaussian random images, for priors whose posteriors are known exactly."""

import torch
from pydantic import PositiveFloat, PositiveInt

from pnpkit.operators.makers import validated


@validated
def flat_mean(size: PositiveInt, value: float = 0.5) -> torch.Tensor:
    """(1, 1, size, size): the same mean in every pixel."""
    return torch.full((1, 1, size, size), value)


@validated
def exponential_covariance(size: PositiveInt, std: PositiveFloat = 0.2, length: PositiveFloat = 3.0) -> torch.Tensor:
    """(1, n, n) with n = size²: std²·exp(−distance/length) between pixels, the distance in pixels.

    Images of it are continuous but rough, as photographs are at their edges (a Matérn field of smoothness 1/2).
    """
    side = torch.arange(size, dtype=torch.float64)
    at = torch.cartesian_prod(side, side)
    return (std**2 * torch.exp(-torch.cdist(at, at) / length)).float()[None]
