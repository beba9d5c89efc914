"""Elementwise multiplication, and the identity."""

from collections.abc import Mapping
from typing import Self

import torch

from pnpkit.errors import ShapeError
from pnpkit.operators.base import LinearOperator
from pnpkit.operators.gram import Gram
from pnpkit.types import Shape


class Identity(LinearOperator):
    """A(x) = x: denoising.

    Parameters
    ----------
    shape : image shape without batch, e.g. (3, 256, 256).
    complex : whether images are complex.
    """

    def __init__(self, shape: Shape, complex: bool = False):
        super().__init__(shape, complex_in=complex)
        self.shape, self.complex = tuple(shape), complex

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return y.clone()

    def diagonal(self) -> Gram:
        return Gram.scalar(1.0)

    @classmethod
    def example(cls) -> Self:
        return cls(shape=(2, 5, 4))


class Diagonal(LinearOperator):
    """A(x) = weight·x, elementwise.

    Parameters
    ----------
    weight : real or complex, exactly ``shape``, or (B, *shape) for one per sample; never broadcast.
    shape : image shape without batch.
    complex : whether images are complex (a complex weight makes the output complex either way).
    """

    linear_in = ("weight",)

    def __init__(self, weight: torch.Tensor, shape: Shape, complex: bool = False):
        shape = tuple(shape)
        if tuple(weight.shape[weight.ndim - len(shape) :]) != shape or weight.ndim > len(shape) + 1:
            raise ShapeError(f"Diagonal: weight must be {shape} or (B, {str(shape)[1:]}, given {tuple(weight.shape)}")
        super().__init__(shape, shape, complex, complex or weight.is_complex())
        self.hold(weight=weight)
        self.shape, self.complex = shape, complex

    @property
    def theta(self) -> Mapping[str, int]:  # type: ignore[override]
        return {"weight": len(self.shape)}

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        x = self.weight.conj() * y
        return x.real if x.is_complex() and not self.complex else x

    def diagonal(self) -> Gram | None:
        if self.weight.is_complex() and not self.complex:
            return None  # maps a real space into a complex one: A^H A is real, A is not an endomorphism
        return Gram.of("pixel", self.weight, rank=len(self.shape))

    @classmethod
    def example(cls) -> Self:
        rng = torch.Generator().manual_seed(2)
        return cls(weight=0.5 + torch.rand(2, 5, 4, generator=rng), shape=(2, 5, 4))
