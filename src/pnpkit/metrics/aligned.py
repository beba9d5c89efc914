"""Fidelity up to a shift: a blind method may move the image and its kernel in opposite directions."""

import torch

from pnpkit.errors import ShapeError
from pnpkit.metrics.image import check_pair, psnr, ssim


def aligned(x: torch.Tensor, ref: torch.Tensor, reach: int = 6, edge: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """x after the circular shift of at most ``reach`` pixels with the least squared error, and ref, for every sample.

    Both (B, C, H − 2·edge, W − 2·edge): the error is that of the inside, ``edge`` pixels away from the border.
    """
    check_pair("aligned", x, ref)
    if x.ndim != 4 or min(x.shape[-2:]) <= 2 * edge:
        raise ShapeError(f"aligned: images are (B, C, H, W) of more than {2 * edge} pixels, given {tuple(x.shape)}.")
    inside = (..., slice(edge, -edge or None), slice(edge, -edge or None))
    ref, best = ref[inside], x[inside]
    error = (best - ref).square().flatten(1).sum(1)
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            moved = x.roll((down, right), (-2, -1))[inside]
            new = (moved - ref).square().flatten(1).sum(1)
            best = torch.where((new < error)[:, None, None, None], moved, best)
            error = torch.minimum(error, new)
    return best, ref


def psnr_aligned(x: torch.Tensor, ref: torch.Tensor, data_range: float) -> torch.Tensor:
    """PSNR, (B,), 8 pixels away from the border after the shift of at most 6 pixels that makes it highest."""
    return psnr(*aligned(x, ref), data_range)


def ssim_aligned(x: torch.Tensor, ref: torch.Tensor, data_range: float) -> torch.Tensor:
    """SSIM, (B,), 8 pixels away from the border after the shift of at most 6 pixels with the highest PSNR."""
    return ssim(*aligned(x, ref), data_range)
