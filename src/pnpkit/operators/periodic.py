"""Periodic images: transfer functions, aliasing, wrapping."""

from functools import reduce

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
    """``fold`` for the ``rfft2`` (…, H, W//2 + 1) of real images of that width W.

    Half of the aliases in a row lie in the half that is there, the others are reflections of such.
    """
    rows = values.unflatten(-2, (factor, -1)).sum(-3)
    coarse = width // factor
    half = coarse // 2
    total = reduce(torch.add, [rows[..., k * coarse :][..., : half + 1] for k in range((factor + 1) // 2)])
    if factor > 1:
        others = [rows[..., k * coarse - half : k * coarse + 1] for k in range(1, factor // 2 + 1)]
        total = total + _reflected(reduce(torch.add, others))
    return total / factor**2


def tile(values: torch.Tensor, factor: int) -> torch.Tensor:
    """(…, h, w) -> (…, h, factor·w), copies along the width.

    ``factor`` of these on top of each other are the ``fft2`` of an image with zeros put between its pixels.
    """
    return values.repeat(*[1] * (values.ndim - 1), factor)


def tile_half(values: torch.Tensor, factor: int, width: int) -> torch.Tensor:
    """``tile`` for ``rfft2``: (…, h, w//2 + 1) -> (…, h, W//2 + 1), where W is the ``width`` of the fine image."""
    other = values[..., 1 : (width // factor + 1) // 2]
    return tile(torch.cat([values, _reflected(other)], -1), factor)[..., : width // 2 + 1]


def _reflected(half: torch.Tensor) -> torch.Tensor:
    """Entries at the opposite frequencies, given those of a real image at columns that do not include 0."""
    return half.flip(-2, -1).roll(1, -2).conj()


def wrap(wide: torch.Tensor, origin: Shape, size: Shape) -> torch.Tensor:
    """Sum an array into a periodic one of ``size`` along its last axes; pixel 0 is at ``origin``.

    The adjoint of circular padding. Every axis may overhang by at most one period on each side.
    """
    for axis, before, n in zip(range(-len(size), 0), origin, size, strict=True):
        behind = wide.shape[axis] - before - n
        out = wide.narrow(axis, before, n + min(behind, 0))
        if behind < 0:
            out = torch.nn.functional.pad(out, [0, 0] * (-axis - 1) + [0, -behind])
        elif before or behind:
            out = out.clone()
        if before:  # what lies before pixel 0 belongs to the end
            out.narrow(axis, n - before, before).add_(wide.narrow(axis, 0, before))
        if behind > 0:
            out.narrow(axis, 0, behind).add_(wide.narrow(axis, before + n, behind))
        wide = out
    return wide
