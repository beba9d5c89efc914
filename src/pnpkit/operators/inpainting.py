"""Missing pixels."""

from typing import Self

import torch

from pnpkit.errors import ShapeError, SpecError
from pnpkit.operators.base import LinearOperator
from pnpkit.operators.gram import Gram
from pnpkit.types import Shape


class Inpainting(LinearOperator):
    """A(x) = mask·x: pixels with mask 0 are missing. The measurement keeps the image's shape.

    Parameters
    ----------
    mask : (1 or C, H, W), or (B, 1 or C, H, W) for one per sample; 1 where a pixel is seen, 0 where it is
        missing; values in between are weights. Booleans are taken as 0/1.
    shape : image shape (C, H, W); the mask's own when None.
    complex : whether images are complex.
    """

    theta = {"mask": 3}
    linear_in = ("mask",)

    def __init__(self, mask: torch.Tensor, shape: Shape | None = None, complex: bool = False):
        shape = tuple(mask.shape[-3:]) if shape is None else tuple(shape)
        event = tuple(mask.shape[-3:])
        if mask.ndim not in (3, 4) or len(shape) != 3 or event not in (shape, (1, *shape[1:])):
            raise ShapeError(
                f"Inpainting: mask must be (C, H, W), (1, H, W) or one of those per sample, for images {shape}; given "
                f"{tuple(mask.shape)}."
            )
        if mask.is_complex():
            raise SpecError("Inpainting: a mask is real; for complex weights use the operator 'diagonal'.")
        if not bool(mask.any()):
            raise SpecError("Inpainting: the mask is zero everywhere, so nothing is measured.")
        super().__init__(shape, shape, complex)
        self.hold(mask=mask)
        self.shape, self.complex = shape, complex

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mask * x

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return self.mask * y

    def diagonal(self) -> Gram:
        return Gram.of("pixel", self.mask, rank=3)

    def initial(self, y: torch.Tensor, rng: torch.Generator | None = None) -> torch.Tensor:
        """Seen pixels as measured; missing ones from averages of seen ones over growing neighbourhoods."""
        mask = torch.broadcast_to(self.mask, (y.shape[0], *self.shape)).to(self.dtype)
        x = torch.where(mask != 0, y / torch.where(mask != 0, mask, torch.ones_like(mask)), torch.zeros_like(y))
        seen, value = (mask != 0).to(self.dtype), x
        unknown, side = mask == 0, 1
        while bool(unknown.any()) and side <= 2 * max(self.shape[1:]):
            weight, total = _average(seen, side), _average(value, side)
            known = weight > 1e-6  # below is rounding of the running averages
            x = torch.where(unknown & known, total / torch.where(known, weight, torch.ones_like(weight)), x)
            unknown, side = unknown & ~known, 2 * side + 1
        return x

    @classmethod
    def example(cls) -> Self:
        rng = torch.Generator().manual_seed(0)
        mask = (torch.rand(2, 5, 4, generator=rng) > 0.4).float()
        mask[0, 0] *= 0.3
        return cls(mask=mask)


def _average(x: torch.Tensor, radius: int) -> torch.Tensor:
    """Mean over (2·radius + 1)² pixels, zeros outside; (B, C, H, W), real or complex."""
    if x.is_complex():
        return torch.complex(_average(x.real, radius), _average(x.imag, radius))
    for axis in (-2, -1):
        x = x.transpose(axis, -1)
        pooled = torch.nn.functional.avg_pool2d(x, (1, 2 * radius + 1), stride=1, padding=(0, radius))
        x = pooled.transpose(axis, -1)
    return x
