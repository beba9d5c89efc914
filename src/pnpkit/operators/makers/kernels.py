"""Blur kernels: (1, h, w) tensors that sum to 1, centre at (h//2, w//2)."""

import math
from typing import Annotated

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from pnpkit.operators.makers import validated

Extent = Annotated[float, Field(gt=0, le=1)]


@validated
def gaussian_kernel(size: PositiveInt, std: PositiveFloat) -> torch.Tensor:
    """Isotropic Gaussian, (1, size, size); ``std`` in pixels. A size of 6·std + 1 loses 0.3 % of it."""
    return anisotropic_gaussian_kernel(size, std, std)


@validated
def anisotropic_gaussian_kernel(
    size: PositiveInt, std_x: PositiveFloat, std_y: PositiveFloat, angle_deg: float = 0.0
) -> torch.Tensor:
    """Rotated Gaussian, (1, size, size).

    std_x, std_y : standard deviations along its own axes, pixels.
    angle_deg : by which they are turned, from the column axis (x) towards the row axis (downwards).
    """
    axis = torch.arange(size, dtype=torch.float64) - size // 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    angle = math.radians(angle_deg)
    u, v = x * math.cos(angle) + y * math.sin(angle), -x * math.sin(angle) + y * math.cos(angle)
    return _normalised(torch.exp(-0.5 * ((u / std_x) ** 2 + (v / std_y) ** 2)))


@validated
def bicubic_kernel(factor: PositiveInt, offset: float | None = None) -> torch.Tensor:
    """The anti-aliasing filter of bicubic downsizing by ``factor``, for ``SuperResolution`` or ``Decimation``.

    Keys's cubic (a = −1/2, IEEE TASSP 1981, eq. 15) stretched by the factor. It has small negative lobes.

    offset : where the coarse sample lies, in fine pixels from the pixel that is kept. None: in the middle of
        its factor × factor block, (factor − 1)/2, as MATLAB's imresize, Pillow and antialiased torch do; 0: on it.
    """
    centre = (factor - 1) / 2 if offset is None else offset
    last, first = math.ceil(centre + 2 * factor) - 1, math.floor(centre - 2 * factor) + 1
    middle = max(last, -first, 0)
    size = 2 * middle + (1 if -first >= middle else 0)
    reach = (middle - torch.arange(size, dtype=torch.float64) - centre).abs() / factor
    near = 1.5 * reach**3 - 2.5 * reach**2 + 1
    far = -0.5 * reach**3 + 2.5 * reach**2 - 4 * reach + 2
    taps = torch.where(reach < 1, near, torch.where(reach < 2, far, 0.0))
    return _normalised(torch.outer(taps, taps))


@validated
def motion_kernel(
    size: PositiveInt, seed: NonNegativeInt, extent: Extent = 0.9, roughness: NonNegativeFloat = 0.6
) -> torch.Tensor:
    """Camera shake along a random smooth path, (1, size, size), with its centre of mass at the centre.

    A simple model of our own: a constant velocity plus white noise smoothed over a tenth of the exposure,
    drawn with bilinear weights at 1000 instants.

    seed : of the path; the global generator is not used.
    extent : how far the path reaches from its centre, as a fraction of what the kernel has room for.
    roughness : 0 for a straight line, 1 for a tangled path.
    """
    rng = torch.Generator().manual_seed(seed)
    instants, window = 1000, 101
    noise = torch.randn(instants + window - 1, 2, generator=rng, dtype=torch.float64)
    wobble = noise.unfold(0, window, 1).mean(-1) * math.sqrt(window)
    drift = torch.randn(2, generator=rng, dtype=torch.float64)
    path = torch.cumsum(drift / drift.norm() + roughness * wobble, 0)
    path = path - path.mean(0)
    room = (size - 1) // 2
    return _normalised(_drawn(path * (extent * room / path.abs().max()) + size // 2, size))


def _drawn(points: torch.Tensor, size: int) -> torch.Tensor:
    """(n, 2) points (row, column) inside [0, size − 1] as bilinear weights on a (size, size) grid."""
    low = points.floor().clamp(0, max(size - 2, 0))
    share = points - low
    kernel = torch.zeros(size + 1, size + 1, dtype=points.dtype)
    rows, columns = low.long().unbind(1)
    for down in (0, 1):
        for right in (0, 1):
            weight = (share[:, 0] - (1 - down)).abs() * (share[:, 1] - (1 - right)).abs()
            kernel.index_put_((rows + down, columns + right), weight, accumulate=True)
    return kernel[:size, :size]


def _normalised(kernel: torch.Tensor) -> torch.Tensor:
    return (kernel / kernel.sum()).to(torch.get_default_dtype())[None]
