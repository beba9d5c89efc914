"""Bounds on pixel values."""

from typing import Self

import torch

from pnpkit.errors import SpecError
from pnpkit.priors.base import Proximable
from pnpkit.types import Shape


class Box(Proximable):
    """Indicator of low ≤ x ≤ high; its prox clips. Non-negativity is the default.

    Real images only: an order needs real numbers.
    """

    def __init__(self, low: float | None = 0.0, high: float | None = None):
        super().__init__()
        if (low is None and high is None) or (low is not None and high is not None and low > high):
            raise SpecError(f"Box: give low, high or both, with low ≤ high; given {low} and {high}.")
        self.low, self.high = low, high

    def misfit(self, shape: Shape, dtype: torch.dtype) -> str | None:
        return "it bounds real images, these are complex" if dtype.is_complex else None

    def _prox(self, z: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        return z.clamp(self.low, self.high)

    def _value(self, x: torch.Tensor) -> torch.Tensor:
        outside = (x != x.clamp(self.low, self.high)).flatten(1).any(1)
        return torch.where(outside, torch.inf, 0.0).to(x.dtype)

    @classmethod
    def example(cls) -> Self:
        return cls(low=-0.5, high=0.8)
