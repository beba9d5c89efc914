"""Images as networks take them: real channels, sides that are multiples of what resampling needs."""

from collections.abc import Callable

import torch
from torch.nn import functional


def on_real_images(network: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, multiple: int) -> torch.Tensor:
    """``network`` on x's real and imaginary part as channels, extended to sides it takes; the answer as x was."""
    parts = torch.cat([x.real, x.imag], 1) if x.is_complex() else x
    height, width = parts.shape[-2:]
    clean = network(extended(parts, multiple))[..., :height, :width]
    return torch.complex(*clean.chunk(2, 1)) if x.is_complex() else clean


def extended(x: torch.Tensor, multiple: int) -> torch.Tensor:
    """Reflected at the right and the lower edge to multiples of ``multiple``; repeated where an image is too small."""
    bottom, right = (-n % multiple for n in x.shape[-2:])
    mode = "reflect" if bottom < x.shape[-2] and right < x.shape[-1] else "replicate"
    return functional.pad(x, (0, right, 0, bottom), mode=mode)


def halves(both: torch.Tensor, complex: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Two images joined along their channels, apart: (B, 2C, H, W); of complex ones [Re a, Re b, Im a, Im b]."""
    if not complex:
        a, b = both.chunk(2, 1)
        return a, b
    real, imaginary = (part.chunk(2, 1) for part in both.chunk(2, 1))
    return torch.cat([real[0], imaginary[0]], 1), torch.cat([real[1], imaginary[1]], 1)
