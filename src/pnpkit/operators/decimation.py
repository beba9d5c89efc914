"""Keep every k-th pixel."""

from typing import Self

import torch

from pnpkit.errors import ShapeError
from pnpkit.operators.base import LinearOperator
from pnpkit.operators.gram import Gram
from pnpkit.operators.periodic import fold
from pnpkit.types import Shape


def check_factor(who: str, factor: int, shape: Shape) -> None:
    """A factor ≥ 1 that divides both sides of the image."""
    if len(shape) != 3 or factor < 1 or shape[1] % factor or shape[2] % factor:
        raise ShapeError(
            f"{who}: factor {factor} must be ≥ 1 and divide both sides of (C, H, W) = {shape}; crop the image."
        )


class Decimation(LinearOperator):
    """x -> x[..., ::factor, ::factor], starting at pixel (0, 0).

    Carries a Fourier-diagonal through by folding its aliases, so ``Decimation @ Blur`` keeps a closed-form prox.

    Parameters
    ----------
    factor : integer ≥ 1 that divides H and W.
    shape : image shape (C, H, W).
    complex : whether images are complex.
    """

    def __init__(self, factor: int, shape: Shape, complex: bool = False):
        shape = tuple(shape)
        check_factor("Decimation", factor, shape)
        super().__init__(shape, (shape[0], shape[1] // factor, shape[2] // factor), complex)
        self.factor, self.shape, self.complex = factor, shape, complex

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[..., :: self.factor, :: self.factor].clone()

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        b, c, h, w = y.shape
        grid = torch.nn.functional.pad(y[..., None, :, None], (0, self.factor - 1, 0, 0, 0, self.factor - 1))
        return grid.reshape(b, c, h * self.factor, w * self.factor)

    def _pull(self, g: Gram) -> Gram | None:
        if g.basis not in ("scalar", "pixel"):
            return None
        batch = g.values.shape[0] if g.values.ndim else 1
        values = torch.broadcast_to(g.values.to(self.device, self.dtype), (batch, *self.out_shape))
        return Gram("pixel", self._adjoint(values))

    def _push(self, g: Gram) -> Gram | None:
        if g.basis == "scalar":
            return g
        if g.basis == "fourier2":
            return Gram("fourier2", fold(g.values, self.factor))
        return Gram("pixel", g.values[..., :: self.factor, :: self.factor]) if g.basis == "pixel" else None

    @classmethod
    def example(cls) -> Self:
        return cls(factor=2, shape=(2, 6, 8))
