"""Periodic images: transfer functions, aliasing, wrapping."""

import torch

from pnpkit.types import Shape


def otf(kernel: torch.Tensor, size: Shape, half: bool = False) -> torch.Tensor:
    """Transfer function of a kernel (…, h, w) whose centre is at (h//2, w//2), (…, H, W).

    Circular convolution with the kernel multiplies ``fft2`` of an image by it; with ``half`` its ``rfft2``,
    (…, H, W//2 + 1).
    """
    h, w = kernel.shape[-2:]
    padded = torch.nn.functional.pad(kernel, (0, size[1] - w, 0, size[0] - h))
    centred = torch.roll(padded, (-(h // 2), -(w // 2)), dims=(-2, -1))
    return torch.fft.rfft2(centred) if half else torch.fft.fft2(centred)


def fold(values: torch.Tensor, factor: int) -> torch.Tensor:
    """Mean over the aliases of decimation by ``factor``: (…, H, W) -> (…, H/factor, W/factor).

    The ``fft2`` of every factor-th pixel of an image, from that of the image.
    """
    *lead, h, w = values.shape
    return values.reshape(*lead, factor, h // factor, factor, w // factor).mean((-4, -2))


def fold_half(values: torch.Tensor, factor: int, width: int) -> torch.Tensor:
    """``fold`` for the ``rfft2`` (…, H, W//2 + 1) of real images of that width W."""
    rows = values.unflatten(-2, (factor, -1)).mean(-3)
    coarse = width // factor
    return _whole(rows, width).unflatten(-1, (factor, coarse)).mean(-2)[..., : coarse // 2 + 1]


def tile(values: torch.Tensor, factor: int) -> torch.Tensor:
    """The ``fft2`` of an image with zeros put between its pixels: every alias is a copy of its own."""
    return values.repeat(*[1] * (values.ndim - 2), factor, factor)


def tile_half(values: torch.Tensor, factor: int, width: int) -> torch.Tensor:
    """``tile`` for the ``rfft2`` of real images; ``width`` is that of the fine image."""
    rows = _whole(values, width // factor).repeat(*[1] * (values.ndim - 1), factor)
    return rows[..., : width // 2 + 1].repeat(*[1] * (values.ndim - 2), factor, 1)


def _whole(half: torch.Tensor, width: int) -> torch.Tensor:
    """(…, H, W//2 + 1) -> (…, H, W): the other half is its point reflection, conjugate."""
    other = half[..., 1 : (width + 1) // 2].flip(-2, -1).roll(1, -2)
    return torch.cat([half, other.conj()], -1)


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
