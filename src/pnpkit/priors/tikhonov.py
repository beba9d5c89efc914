"""Quadratic penalties."""

from typing import Self

import torch
from pydantic import PositiveFloat

from pnpkit.operators.base import LinearOperator
from pnpkit.priors.base import Proximable
from pnpkit.types import Shape


class Tikhonov(Proximable):
    """weight/2 · ‖K x‖²: a Gaussian prior of precision weight·K^H K.

    Parameters
    ----------
    weight : > 0, in units of 1/x² (K = I).
    operator : K, e.g. the operator ``gradient``; None for the identity.
    """

    degree = 2

    def __init__(self, weight: PositiveFloat, operator: LinearOperator | None = None):
        super().__init__()
        self.weight, self.operator = weight, operator

    def misfit(self, shape: Shape, dtype: torch.dtype) -> str | None:
        k = self.operator
        if k is None or (k.in_shape, k.in_dtype) == (tuple(shape), dtype):
            return None
        return f"its operator works on {k.in_shape} {k.in_dtype}, these are {tuple(shape)} {dtype}"

    def _prox(self, z: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        t = self.weight * tau
        if self.operator is None:
            return z / (1 + t.reshape(-1, *[1] * (z.ndim - 1)))
        zero = torch.zeros((z.shape[0], *self.operator.out_shape), dtype=self.operator.out_dtype, device=z.device)
        return self.operator.prox_l2(z, zero, t)

    def _value(self, x: torch.Tensor) -> torch.Tensor:
        k = x if self.operator is None else self.operator._forward(x)
        return 0.5 * self.weight * k.abs().square().flatten(1).sum(1)

    @classmethod
    def example(cls) -> Self:
        return cls(weight=0.7)
