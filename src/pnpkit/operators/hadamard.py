"""Single-pixel imaging: coefficients of the Walsh–Hadamard transform."""

from typing import Self

import torch

from pnpkit.errors import ShapeError, SpecError
from pnpkit.operators.base import LinearOperator
from pnpkit.operators.gram import Gram
from pnpkit.types import Shape


class Hadamard(LinearOperator):
    """y = (H x)[index]: (C, height, width) -> (C, m), H orthonormal over all pixels of a channel, in natural order.

    The patterns that a single-pixel camera shows (Duarte et al., IEEE SPM 25(2), 2008), up to the offset that makes
    them non-negative. By the fast transform, n·log n; prox and pseudo-inverse are closed forms.

    Parameters
    ----------
    shape : image shape (C, height, width); height·width a power of two.
    index : (m,) integers, which coefficients are measured, without repetition; None for all. ``hadamard_order`` makes
        the usual choice, those of lowest sequency.
    """

    row_axis = -1

    def __init__(self, shape: Shape, index: torch.Tensor | None = None):
        shape = tuple(shape)
        n = shape[-1] * shape[-2] if len(shape) == 3 else 0
        if n < 1 or n & (n - 1):
            raise ShapeError(f"Hadamard: shape is (C, H, W) with H·W a power of two, given {shape}.")
        index = torch.arange(n) if index is None else index
        whole = not (index.is_floating_point() or index.is_complex() or index.dtype == torch.bool)
        if not whole or index.ndim != 1 or not len(index):
            raise SpecError(f"Hadamard: index is (m,) integers, given {tuple(index.shape)} {index.dtype}.")
        if int(index.min()) < 0 or int(index.max()) >= n or len(index.unique()) != len(index):
            raise SpecError(f"Hadamard: index has values from 0 to {n - 1}, each once.")
        super().__init__(shape, (shape[0], len(index)))
        self.register_buffer("index", index.to(torch.int64, copy=True))
        self.shape = shape

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return transformed(x.flatten(2))[..., self.index]

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        whole = torch.zeros(*y.shape[:-1], self.shape[-1] * self.shape[-2], dtype=y.dtype, device=y.device)
        return transformed(whole.index_copy(-1, self.index, y)).unflatten(-1, self.shape[-2:])

    def _push(self, g: Gram) -> Gram | None:
        return g if g.basis == "scalar" else None

    def _pull(self, g: Gram) -> Gram | None:
        return g if g.basis == "scalar" and len(self.index) == self.shape[-1] * self.shape[-2] else None

    @classmethod
    def example(cls) -> Self:
        return cls(shape=(2, 4, 8), index=torch.tensor([0, 1, 2, 3, 5, 8, 13, 21, 30]))


def transformed(x: torch.Tensor) -> torch.Tensor:
    """The orthonormal Walsh–Hadamard transform along the last axis, n a power of two: its own inverse."""
    n = x.shape[-1]
    half = 1
    while half < n:
        a, b = x.unflatten(-1, (-1, 2, half)).unbind(-2)
        x = torch.stack([a + b, a - b], -2).flatten(-3)
        half *= 2
    return x / n**0.5
