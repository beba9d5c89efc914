"""Coil sensitivity maps through sigpy: (coils, H, W), complex64."""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field, PositiveInt

from pnpkit.errors import DataError, ShapeError, SpecError
from pnpkit.types import Shape

Share = Annotated[float, Field(ge=0, lt=1)]


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
    calib: PositiveInt = 24,
    kernel: PositiveInt = 6,
    threshold: Share = 0.02,
    crop: Share = 0.95,
    n_steps: PositiveInt = 100,
) -> torch.Tensor:
    """ESPIRiT (Uecker et al., MRM 71, 2014) by ``sigpy.mri.app.EspiritCalib``; Σ|maps|² is 1, or 0 outside.

    kspace : (coils, H, W) complex, centred; only its central calib × calib part is used.
    kernel : side of the k-space kernels, ≤ calib.
    threshold : singular values of the calibration matrix below this share of the largest are noise.
    crop : maps are 0 where the eigenvalue is below this: pixels without signal.
    n_steps : of the power iteration in every pixel.
    """
    from sigpy.mri.app import EspiritCalib

    _check_kspace(kspace, calib, kernel)
    state = np.random.get_state()
    try:
        array = kspace.detach().cpu().resolve_conj().numpy().astype(np.complex64)
        maps = EspiritCalib(
            array, calib, thresh=threshold, kernel_width=kernel, crop=crop, max_iter=n_steps, show_pbar=False
        ).run()
    finally:
        np.random.set_state(state)
    if not np.isfinite(maps).all() or not maps.any():
        raise DataError(
            f"espirit_maps: no coil maps came out of the central {calib}×{calib} part of k-space; check that it is fully "
            f"sampled and centred, or lower crop ({crop:g})."
        )
    return torch.from_numpy(np.ascontiguousarray(maps)).to(torch.complex64)


def _check_kspace(kspace: torch.Tensor, calib: int, kernel: int) -> None:
    if kspace.ndim != 3 or not kspace.is_complex():
        raise ShapeError(
            f"espirit_maps: kspace is complex (coils, H, W), without a batch; given {tuple(kspace.shape)} {kspace.dtype}."
        )
    if not kernel <= calib <= min(kspace.shape[-2:]):
        raise SpecError(
            f"espirit_maps: needs kernel ≤ calib ≤ the sides of k-space; given {kernel}, {calib}, {tuple(kspace.shape[-2:])}."
        )
    rows, columns = (slice(n // 2 - calib // 2, n // 2 - calib // 2 + calib) for n in kspace.shape[-2:])
    centre = kspace[:, rows, columns]
    if not bool(torch.isfinite(torch.view_as_real(centre)).all()):
        raise DataError("espirit_maps: the calibration region of k-space contains NaN or Inf; repair the data.")
    empty = (centre.abs().sum(0) == 0).float().mean()
    if float(empty) > 0:
        raise DataError(
            f"espirit_maps: {float(empty):.0%} of the central {calib}×{calib} part of k-space is not sampled; lower calib to "
            "the fully sampled part."
        )
