"""Operators around objects of other libraries."""

from collections.abc import Callable

import numpy as np
import torch

from pnpkit.errors import ShapeError
from pnpkit.operators.base import LinearOperator, Operator
from pnpkit.operators.external import apply_external
from pnpkit.types import Shape

Map = Callable[[torch.Tensor], torch.Tensor]
ArrayMap = Callable[[np.ndarray], np.ndarray]


class WrappedArrays(LinearOperator):
    """A linear map of NumPy arrays (B, *in) -> (B, *out) with its adjoint; made by ``from_scipy``, ``from_sigpy``."""

    def __init__(
        self,
        mapping: object,
        adjoint_mapping: object,
        in_shape: Shape,
        out_shape: Shape,
        complex_in: bool,
        complex_out: bool,
    ):
        super().__init__(in_shape, out_shape, complex_in, complex_out)
        self.mapping, self.adjoint_mapping = mapping, adjoint_mapping
        self.complex_in, self.complex_out = complex_in, complex_out

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return apply_external(x, self.mapping, self._back, self.out_dtype)  # type: ignore[arg-type]

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return apply_external(y, self._back, self.mapping, self.in_dtype)  # type: ignore[arg-type]

    def _back(self, y: np.ndarray) -> np.ndarray:
        """The adjoint; its real part for real images."""
        x = self.adjoint_mapping(y)  # type: ignore[operator]
        return x if self.complex_in else np.ascontiguousarray(x.real)


class WrappedTensors(LinearOperator):
    """A linear map of batched tensors, with its adjoint; made by ``from_deepinv``, ``from_torchkbnufft``.

    owner : the module that the maps belong to: what it holds moves and changes its dtype with the operator.
    """

    def __init__(
        self,
        owner: object,
        mapping: object,
        adjoint_mapping: object,
        prox_mapping: object,
        in_shape: Shape,
        out_shape: Shape,
        complex_in: bool,
        complex_out: bool,
    ):
        super().__init__(in_shape, out_shape, complex_in, complex_out)
        self.owner = owner
        self.mapping, self.adjoint_mapping, self.prox_mapping = mapping, adjoint_mapping, prox_mapping
        self.complex_in, self.complex_out = complex_in, complex_out

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mapping(x)  # type: ignore[operator]

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return self.adjoint_mapping(y)  # type: ignore[operator]

    def _prox_l2(self, z: torch.Tensor, y: torch.Tensor, tau) -> torch.Tensor:
        return super()._prox_l2(z, y, tau) if self.prox_mapping is None else self.prox_mapping(z, y, tau)  # type: ignore[operator]


class WrappedNonLinear(Operator):
    """A map of batched tensors; made by ``from_deepinv``. owner : as in ``WrappedTensors``."""

    def __init__(
        self, owner: object, mapping: object, in_shape: Shape, out_shape: Shape, complex_in: bool, complex_out: bool
    ):
        super().__init__(in_shape, out_shape, complex_in, complex_out)
        self.owner, self.mapping = owner, mapping
        self.complex_in, self.complex_out = complex_in, complex_out

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mapping(x)  # type: ignore[operator]


def image_shape(shape: Shape) -> Shape:
    """(H, W) as (1, H, W); others as they are."""
    return (1, *shape) if len(shape) == 2 else tuple(shape)


def one_flat_axis(operator: Operator) -> tuple[int, int]:
    """Numbers of pixels and of measurements of a linear operator."""
    if not isinstance(operator, LinearOperator):
        raise ShapeError(f"{type(operator).__name__} is not linear; only linear operators have such a form.")
    return torch.Size(operator.in_shape).numel(), torch.Size(operator.out_shape).numel()
