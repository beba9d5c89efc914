"""Sampling masks: float32 tensors of zeros and ones. Each seed has its own generator."""

from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeInt, PositiveInt

from pnpkit.errors import SpecError
from pnpkit.types import Shape

Fraction = Annotated[float, Field(gt=0, le=1)]
Acceleration = Annotated[float, Field(ge=1)]


def random_mask(shape: Shape, fraction: Fraction, seed: int = 0) -> torch.Tensor:
    """Exactly round(fraction·n) of the n entries kept (at least one), anywhere with equal chance.

    shape : of the mask, e.g. (1, H, W) for one mask for all channels.
    """
    n = _count(shape, "random_mask")
    mask = torch.zeros(n)
    mask[_draw(torch.ones(n), max(1, round(fraction * n)), seed)] = 1
    return mask.reshape(shape)


def box_mask(
    shape: Shape,
    height: PositiveInt,
    width: PositiveInt,
    top: NonNegativeInt | None = None,
    left: NonNegativeInt | None = None,
) -> torch.Tensor:
    """Ones with a missing box of zeros, (…, H, W).

    height, width : of the box, pixels.
    top, left : its first row and column; centred along an axis where None.
    """
    _count(shape, "box_mask", rank=2)
    rows, columns = shape[-2:]
    top = (rows - height) // 2 if top is None else top
    left = (columns - width) // 2 if left is None else left
    outside = top < 0 or left < 0 or top + height > rows or left + width > columns
    if outside or (height, width) == (rows, columns):
        raise SpecError(
            f"box_mask: a {height}×{width} box at ({top}, {left}) must lie inside {rows}×{columns} and leave pixels."
        )
    mask = torch.ones(shape)
    mask[..., top : top + height, left : left + width] = 0
    return mask


def line_mask(
    shape: Shape,
    acceleration: Acceleration,
    calib: NonNegativeInt = 24,
    seed: int = 0,
    pattern: Literal["random", "gaussian", "uniform"] = "random",
    axis: Literal[-2, -1] = -2,
) -> torch.Tensor:
    """Fully sampled lines of a centred k-space, (…, H, W), for Cartesian MRI.

    acceleration : n/acceleration of the n lines are kept, calibration included; for "uniform" every
        acceleration-th line, calibration besides.
    calib : lines around the zero frequency that are always kept.
    pattern : "random" with equal chance, "gaussian" denser around the zero frequency (standard deviation
        n/6), or "uniform" spacing through the zero frequency (SENSE, GRAPPA; takes no seed).
    axis : the phase-encoding axis, along which lines are chosen; −2 keeps rows, as ``MRI.rows`` does.
    """
    _count(shape, "line_mask", rank=2)
    n = shape[axis]
    budget = round(n / acceleration)
    if calib > n or (pattern != "uniform" and calib > budget):
        raise SpecError(
            f"line_mask: {calib} calibration lines do not fit into {budget} of {n} lines (acceleration "
            f"{acceleration:g}); lower calib or acceleration."
        )
    lines = _uniform(n, acceleration) if pattern == "uniform" else torch.zeros(n)
    lines[n // 2 - calib // 2 :][:calib] = 1
    if pattern != "uniform":
        offset = (torch.arange(n) - n // 2) / (n / 6)
        chance = torch.exp(-offset.square() / 2) if pattern == "gaussian" else torch.ones(n)
        lines[_draw(chance * (1 - lines), budget - calib, seed)] = 1
    if not bool(lines.any()):
        raise SpecError(f"line_mask: acceleration {acceleration:g} keeps none of {n} lines; lower it or add calib.")
    return (lines[:, None] if axis == -2 else lines).expand(shape).clone()


def poisson_disc_mask(
    shape: Shape,
    acceleration: Annotated[float, Field(gt=1)],
    calib: NonNegativeInt = 24,
    seed: int = 0,
    crop_corner: bool = True,
    tolerance: Annotated[float, Field(gt=0)] = 0.1,
) -> torch.Tensor:
    """Variable-density Poisson-disc sampling of a centred k-space, (…, H, W), by ``sigpy.mri.poisson``.

    acceleration : n entries over n kept; reached to within ``tolerance``.
    calib : side of the square around the zero frequency that is kept whole.
    crop_corner : leave out frequencies outside the inscribed ellipse.
    """
    from sigpy.mri import poisson

    _count(shape, "poisson_disc_mask", rank=2)
    if calib >= min(shape[-2:]):
        raise SpecError(f"poisson_disc_mask: calib {calib} leaves nothing to choose in a k-space {tuple(shape[-2:])}.")
    state = np.random.get_state()
    try:
        mask = poisson(shape[-2:], acceleration, (calib, calib), crop_corner=crop_corner, seed=seed, tol=tolerance)
    except ValueError as error:
        raise SpecError(
            f"poisson_disc_mask: sigpy finds no mask of acceleration {acceleration:g} ± {tolerance:g} with a "
            f"{calib}×{calib} centre in {tuple(shape[-2:])}; change acceleration or calib, or raise tolerance."
        ) from error
    finally:
        np.random.set_state(state)
    return torch.from_numpy(mask.real.astype(np.float32)).expand(shape).clone()


def _count(shape: Shape, label: str, rank: int = 1) -> int:
    if len(shape) < rank or not all(n > 0 for n in shape):
        raise SpecError(
            f"{label}: shape must be at least {rank} positive sizes, e.g. (1, 256, 256); given {tuple(shape)}."
        )
    return int(torch.Size(shape).numel())


def _draw(chance: torch.Tensor, n: int, seed: int) -> torch.Tensor:
    """Indices of n distinct entries drawn one after the other with these chances, never one of chance 0.

    The n largest u^(1/chance) of uniform u (Efraimidis & Spirakis, Inf. Process. Lett. 97, 2006).
    """
    u = torch.rand(chance.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    key = torch.where(chance > 0, u.clamp_min(1e-300).log() / chance.double(), -torch.inf)
    return key.topk(n).indices


def _uniform(n: int, spacing: float) -> torch.Tensor:
    """Ones at n // 2 + round(k·spacing)."""
    steps = torch.arange(-n, n + 1)
    at = n // 2 + (steps * spacing).round().long()
    lines = torch.zeros(n)
    lines[at[(at >= 0) & (at < n)]] = 1
    return lines
