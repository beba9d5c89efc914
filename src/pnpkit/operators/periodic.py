"""Periodic images: transfer functions, aliasing, wrapping."""

import torch

from pnpkit.types import Shape


def otf(kernel: torch.Tensor, size: Shape) -> torch.Tensor:
    """Transfer function of a kernel (…, h, w) whose centre is at (h//2, w//2), full spectrum (…, H, W).

    Circular convolution with the kernel multiplies ``fft2`` of an image by it.
    """
    h, w = kernel.shape[-2:]
    padded = torch.nn.functional.pad(kernel, (0, size[1] - w, 0, size[0] - h))
    return torch.fft.fft2(torch.roll(padded, (-(h // 2), -(w // 2)), dims=(-2, -1)))


def fold(values: torch.Tensor, factor: int) -> torch.Tensor:
    """Mean over the aliases of decimation by ``factor``: (…, H, W) -> (…, H/factor, W/factor)."""
    *lead, h, w = values.shape
    return values.reshape(*lead, factor, h // factor, factor, w // factor).mean((-4, -2))


def wrap(wide: torch.Tensor, origin: Shape, size: Shape) -> torch.Tensor:
    """Sum an array into a periodic one of ``size`` along its last axes; pixel 0 is at ``origin``.

    The adjoint of circular padding. Every axis may overhang by at most one period on each side.
    """
    for axis, start, n in zip(range(-len(size), 0), origin, size, strict=True):
        body = wide.narrow(axis, start, min(n, wide.shape[axis] - start))
        out = _grow(body, axis, 0, n - body.shape[axis])
        if start:  # what lies before pixel 0 comes back at the end
            out = out + _grow(wide.narrow(axis, 0, start), axis, n - start, 0)
        rest = wide.shape[axis] - start - n
        if rest > 0:  # what lies behind the last pixel comes back at the start
            out = out + _grow(wide.narrow(axis, start + n, rest), axis, 0, n - rest)
        wide = out
    return wide


def _grow(x: torch.Tensor, axis: int, before: int, after: int) -> torch.Tensor:
    return torch.nn.functional.pad(x, [0, 0] * (-axis - 1) + [before, after])
