"""Coil sensitivity maps through sigpy: (coils, H, W), complex64."""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field, NonNegativeInt, PositiveInt

from pnpkit.errors import DataError, ShapeError
from pnpkit.types import Shape

Share = Annotated[float, Field(ge=0, lt=1)]
LARGEST_CALIB = 24


def birdcage_maps(shape: Shape, radius: Annotated[float, Field(gt=1)] = 1.5) -> torch.Tensor:
    """Coils evenly around the image, by ``sigpy.mri.birdcage_maps``; Σ|maps|² = 1 in every pixel.

    shape : (coils, H, W).
    radius : of the ring of coils, in half image sides; > 1, outside the image.
    """
    from sigpy.mri import birdcage_maps as birdcage

    if len(shape) != 3 or not all(n > 0 for n in shape):
        raise ShapeError(f"birdcage_maps: shape is (coils, H, W), given {tuple(shape)}.")
    return torch.from_numpy(birdcage(shape, r=radius)).to(torch.complex64).contiguous()


def espirit_maps(
    kspace: torch.Tensor,
    calib: PositiveInt | None = None,
    kernel: PositiveInt = 6,
    threshold: Share = 0.02,
    crop: Share = 0.95,
    n_steps: PositiveInt = 100,
) -> torch.Tensor:
    """ESPIRiT (Uecker et al., MRM 71, 2014) by ``sigpy.mri.app.EspiritCalib``; Σ|maps|² is 1, or 0 outside.

    kspace : (coils, H, W) complex, centred; only its central calib × calib part is used.
    calib : side of that part, which must be fully sampled; the largest up to 24 that is when None.
    kernel : side of the k-space kernels, ≤ calib.
    threshold : singular values of the calibration matrix below this share of the largest are noise.
    crop : maps are 0 where the eigenvalue is below this: pixels without signal.
    n_steps : of the power iteration in every pixel.
    """
    from sigpy.mri.app import EspiritCalib

    calib = _calibration(kspace, calib, kernel)
    state = np.random.get_state()
    try:
        array = kspace.detach().cpu().resolve_conj().numpy().astype(np.complex64)
        app = EspiritCalib(
            array, calib, thresh=threshold, kernel_width=kernel, crop=crop, max_iter=n_steps, show_pbar=False
        )
        maps = np.asarray(app.run())
    finally:
        np.random.set_state(state)
    if not np.isfinite(maps).all() or not maps.any():
        raise DataError(
            f"espirit_maps: no coil maps came out of the central {calib}×{calib} part of k-space; check that "
            f"k-space is centred, or lower crop ({crop:g})."
        )
    return torch.from_numpy(np.ascontiguousarray(maps)).to(torch.complex64)


def _calibration(kspace: torch.Tensor, calib: int | None, kernel: int) -> int:
    """The side of the calibration region, after checking that it is usable."""
    if kspace.ndim != 3 or not kspace.is_complex():
        raise ShapeError(
            f"espirit_maps: kspace is complex (coils, H, W), without a batch; given {tuple(kspace.shape)} "
            f"{kspace.dtype}."
        )
    largest = _fully_sampled(kspace)
    calib = min(largest, LARGEST_CALIB) if calib is None else calib
    if calib > largest or calib < kernel:
        raise DataError(
            f"espirit_maps: the central {largest}×{largest} part of k-space is fully sampled; calib ({calib}) must be "
            f"at most that and at least the kernel ({kernel})."
        )
    if not bool(torch.isfinite(torch.view_as_real(_centre(kspace, calib))).all()):
        raise DataError("espirit_maps: the calibration region of k-space contains NaN or Inf; repair the data.")
    return calib


def _fully_sampled(kspace: torch.Tensor) -> int:
    """Side of the largest central square where some coil has a value everywhere."""
    seen, side = (kspace != 0).any(0), 0
    while side < min(seen.shape) and bool(_centre(seen, side + 1).all()):
        side += 1
    return side


def _centre(t: torch.Tensor, side: int) -> torch.Tensor:
    rows, columns = (slice(n // 2 - side // 2, n // 2 - side // 2 + side) for n in t.shape[-2:])
    return t[..., rows, columns]


def random_coil_maps(shape: Shape, seed: NonNegativeInt = 0) -> torch.Tensor:
    """Smooth coils of random place, reach and phase around the image; Σ|maps|² = 1 in every pixel.

    A coil's magnitude is a Gaussian of the distance from a point on a ring just outside the image, its phase linear.
    For simulations that should not depend on one coil geometry.

    shape : (coils, H, W).
    """
    if len(shape) != 3 or not all(n > 0 for n in shape):
        raise ShapeError(f"random_coil_maps: shape is (coils, H, W), given {tuple(shape)}.")
    rng = torch.Generator().manual_seed(seed)
    n = shape[0]
    turn, ring, reach, *slopes, phase = torch.rand(6, n, 1, 1, generator=rng)
    angle = 2 * torch.pi * (torch.arange(n).reshape(-1, 1, 1) + 0.5 * turn + turn[0]) / n
    row, column = (torch.linspace(-1, 1, m) for m in shape[1:])
    down, right = row[:, None] - (1 + 0.3 * ring) * angle.sin(), column - (1 + 0.3 * ring) * angle.cos()
    size = torch.exp(-(down**2 + right**2) / (2 * (0.6 + 0.6 * reach) ** 2))
    waves = 2 * (slopes[0] - 0.5) * row[:, None] + 2 * (slopes[1] - 0.5) * column
    maps = torch.polar(size, torch.pi * waves + 2 * torch.pi * phase)
    return maps / maps.abs().square().sum(0).sqrt()
