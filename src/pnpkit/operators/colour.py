"""From colour to fewer values a pixel: a weighted sum, and a colour filter array."""

from typing import Literal, Self

import torch

from pnpkit.errors import ShapeError, SpecError
from pnpkit.operators.base import LinearOperator
from pnpkit.operators.gram import Gram
from pnpkit.types import Shape

BT601 = (0.299, 0.587, 0.114)


class ColourToGrey(LinearOperator):
    """y = Σ_c weights_c·x_c: (C, H, W) -> (1, H, W); prox and pseudo-inverse are closed forms.

    With ITU-R BT.601's weights it is luma. With a camera's spectral response it is the panchromatic band: pansharpening
    is ``Stack(operators=(SuperResolution(…), ColourToGrey(weights=response, …)))``.

    Parameters
    ----------
    shape : image shape (C, H, W).
    weights : (C,), or (B, C) for one per sample; None for BT.601 of three channels.
    """

    theta = {"weights": 1}
    linear_in = ("weights",)

    def __init__(self, shape: Shape, weights: torch.Tensor | None = None):
        shape = tuple(shape)
        weights = torch.tensor(BT601) if weights is None else weights
        if len(shape) != 3 or weights.ndim not in (1, 2) or weights.shape[-1] != shape[0]:
            raise ShapeError(
                f"ColourToGrey: one weight a channel of (C, H, W) = {shape}, given {tuple(weights.shape)}."
            )
        if not bool(weights.any()):
            raise SpecError("ColourToGrey: the weights are zero everywhere.")
        super().__init__(shape, (1, *shape[1:]))
        self.hold(weights=weights)
        self.shape = shape

    def _column(self) -> torch.Tensor:
        """(C, 1, 1), or (B, C, 1, 1)."""
        return self.weights[..., None, None]

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self._column() * x).sum(1, keepdim=True)

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return self._column() * y

    def _push(self, g: Gram) -> Gram | None:
        column = self._column() ** 2
        if g.basis == "scalar":
            total = column.sum(-3)
            return Gram("scalar", total.reshape(()) * g.values if total.ndim == 2 else total[:, None] * g.values)
        return Gram(g.basis, (column * g.values).sum(-3, keepdim=True))

    def _pull(self, g: Gram) -> Gram | None:
        return None  # channels mix

    @classmethod
    def example(cls) -> Self:
        return cls(shape=(3, 5, 4))


class Mosaic(LinearOperator):
    """One colour a pixel, as a camera's colour filter array sees: (3, H, W) -> (1, H, W); demosaicing is its inverse.

    Parameters
    ----------
    shape : image shape (3, H, W), sides even.
    pattern : the colours of the 2×2 cell at the upper left, row by row (Bayer 1976).
    """

    def __init__(self, shape: Shape, pattern: Literal["RGGB", "BGGR", "GRBG", "GBRG"] = "RGGB"):
        shape = tuple(shape)
        if len(shape) != 3 or shape[0] != 3 or shape[1] % 2 or shape[2] % 2:
            raise ShapeError(f"Mosaic: shape is (3, H, W) with even sides, given {shape}.")
        super().__init__(shape, (1, *shape[1:]))
        self.shape, self.pattern = shape, pattern
        cell = torch.tensor([["RGB".index(c) for c in pattern[:2]], ["RGB".index(c) for c in pattern[2:]]])
        which = cell.repeat(shape[1] // 2, shape[2] // 2)
        self.register_buffer("mask", torch.nn.functional.one_hot(which, 3).permute(2, 0, 1).float(), persistent=False)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.mask * x).sum(1, keepdim=True)

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return self.mask * y

    def _pull(self, g: Gram) -> Gram | None:
        return Gram("pixel", self.mask[None] * g.values) if g.basis in ("scalar", "pixel") else None

    def _push(self, g: Gram) -> Gram | None:
        if g.basis == "scalar":
            return g
        return Gram("pixel", (self.mask[None] * g.values).sum(-3, keepdim=True)) if g.basis == "pixel" else None

    @classmethod
    def example(cls) -> Self:
        return cls(shape=(3, 6, 4), pattern="GRBG")
