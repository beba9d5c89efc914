"""Fidelity to a reference: PSNR, SSIM, NMSE. Values are per sample, (B,)."""

import torch

from pnpkit.errors import DataError, ShapeError, SpecError


def check_pair(name: str, x: torch.Tensor, ref: torch.Tensor) -> None:
    """Same shape, batch first, finite, both real."""
    if x.shape != ref.shape or x.ndim < 2:
        raise ShapeError(
            f"{name}: x and ref must have one shape (B, …), given {tuple(x.shape)} and {tuple(ref.shape)}."
        )
    if x.is_complex() or ref.is_complex():
        raise ShapeError(f"{name} compares real images; say what you mean of complex ones, e.g. x.abs() and ref.abs().")
    if not bool(torch.isfinite(x).all() and torch.isfinite(ref).all()):
        raise DataError(f"{name}: NaN or Inf in an image; a metric of that would be no number.")


def _check_range(name: str, data_range: float) -> None:
    if not 0 < data_range < float("inf"):
        raise SpecError(
            f"{name}: data_range is the peak-to-peak range of the reference (1 for [0, 1]), > 0; given {data_range}."
        )


def psnr(x: torch.Tensor, ref: torch.Tensor, data_range: float) -> torch.Tensor:
    """10·log10(data_range² / MSE) in dB, (B,); all pixels and channels, no clipping, no border cut. inf when equal."""
    check_pair("psnr", x, ref)
    _check_range("psnr", data_range)
    mse = (x - ref).square().flatten(1).mean(1)
    return 10 * torch.log10(data_range**2 / mse)


def nmse(x: torch.Tensor, ref: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """‖x − ref‖² / ‖ref‖², (B,), within ``mask`` (boolean, broadcastable) when given. Complex images allowed."""
    if x.shape != ref.shape or x.ndim < 2:
        raise ShapeError(f"nmse: x and ref must have one shape (B, …), given {tuple(x.shape)} and {tuple(ref.shape)}.")
    weight = torch.ones_like(ref.abs()) if mask is None else mask.to(ref.abs().dtype).expand(ref.shape)
    error = ((x - ref).abs().square() * weight).flatten(1).sum(1)
    energy = (ref.abs().square() * weight).flatten(1).sum(1)
    if not bool((energy > 0).all() and torch.isfinite(error).all()):
        raise DataError("nmse: the reference is zero within the mask, or an image holds NaN or Inf.")
    return error / energy


def ssim(x: torch.Tensor, ref: torch.Tensor, data_range: float) -> torch.Tensor:
    """Structural similarity (Wang et al., TIP 2004), (B,): mean over channels and the valid region.

    Gaussian window 11×11 of sigma 1.5, K1 = 0.01, K2 = 0.03, population covariance; images (B, C, H, W) of at least
    11×11. Agrees with ``skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False)``.
    """
    check_pair("ssim", x, ref)
    _check_range("ssim", data_range)
    if x.ndim != 4 or min(x.shape[-2:]) < 11:
        raise ShapeError(f"ssim: images are (B, C, H, W) of at least 11×11, given {tuple(x.shape)}.")
    axis = torch.arange(11, dtype=x.dtype, device=x.device) - 5
    window = torch.exp(-0.5 * (axis / 1.5) ** 2)
    window = window / window.sum()

    def blur(image: torch.Tensor) -> torch.Tensor:
        flat = image.flatten(0, 1)[:, None]
        flat = torch.nn.functional.conv2d(flat, window.reshape(1, 1, -1, 1))
        return torch.nn.functional.conv2d(flat, window.reshape(1, 1, 1, -1)).unflatten(0, image.shape[:2])[:, :, 0]

    mx, mr = blur(x), blur(ref)
    vx, vr, cov = blur(x * x) - mx * mx, blur(ref * ref) - mr * mr, blur(x * ref) - mx * mr
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    score = ((2 * mx * mr + c1) * (2 * cov + c2)) / ((mx * mx + mr * mr + c1) * (vx + vr + c2))
    return score.flatten(1).mean(1)
