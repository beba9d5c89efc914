"""Blur kernels, (1, h, w), non-negative, sum 1."""

import math

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt


def gaussian_kernel(size: PositiveInt, std: PositiveFloat) -> torch.Tensor:
    """Isotropic Gaussian, (1, size, size); ``std`` in pixels."""
    return anisotropic_gaussian_kernel(size, std, std, 0.0)


def anisotropic_gaussian_kernel(
    size: PositiveInt, std_x: PositiveFloat, std_y: PositiveFloat, angle_deg: float = 0.0
) -> torch.Tensor:
    """Rotated Gaussian, (1, size, size); standard deviations in pixels along its axes, angle from the x axis."""
    axis = torch.arange(size, dtype=torch.float64) - size // 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    a = math.radians(angle_deg)
    u, v = x * math.cos(a) + y * math.sin(a), -x * math.sin(a) + y * math.cos(a)
    kernel = torch.exp(-0.5 * ((u / std_x) ** 2 + (v / std_y) ** 2))
    return (kernel / kernel.sum()).float()[None]


def motion_kernel(
    size: PositiveInt, seed: int, extent: PositiveFloat = 0.7, roughness: NonNegativeFloat = 0.6
) -> torch.Tensor:
    """Camera shake along a random smooth path, (1, size, size), its centre of mass in the middle.

    A reconstruction, not a published generator: the velocity is a random walk smoothed over a tenth of the exposure.

    size : odd or even, pixels.
    seed : of the path; the global RNG is not used.
    extent : longest side of the path, as a fraction of ``size``.
    roughness : 0 is a straight line; about 1 a tangled path.
    """
    rng = torch.Generator().manual_seed(seed)
    n, window = 1000, 101
    turn = torch.randn(n + window - 1, 2, generator=rng, dtype=torch.float64)
    wobble = turn.unfold(0, window, 1).mean(-1) * math.sqrt(window)
    direction = torch.randn(2, generator=rng, dtype=torch.float64)
    path = torch.cumsum(direction / direction.norm() + roughness * wobble, 0)
    path = path - path.mean(0)
    span = (path.max(0).values - path.min(0).values).max()
    path = path * (extent * (size - 1) / span) if size > 1 else path * 0
    kernel = _splat(path + size // 2, size)
    return (kernel / kernel.sum()).float()[None]


def _splat(points: torch.Tensor, size: int) -> torch.Tensor:
    """Bilinear rasterisation of (n, 2) points into (size, size); what falls outside is dropped."""
    low = points.floor()
    frac = points - low
    kernel = torch.zeros(size * size, dtype=points.dtype)
    for dy in (0, 1):
        for dx in (0, 1):
            row, column = (low[:, 0] + dy).long(), (low[:, 1] + dx).long()
            share = (frac[:, 0] if dy else 1 - frac[:, 0]) * (frac[:, 1] if dx else 1 - frac[:, 1])
            inside = (row >= 0) & (row < size) & (column >= 0) & (column < size)
            kernel.index_add_(0, (row * size + column)[inside], share[inside])
    return kernel.reshape(size, size)
