"""Hermitian operators that are diagonal in a known unitary basis.

The mechanism by which structure survives composition: an operator says how it carries a diagonal G
through A^H G A and A G A^H (``_pull``, ``_push``), and prox, pseudo-inverse and norm follow.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from pnpkit.linalg import expand
from pnpkit.types import Scalar

Basis = Literal["scalar", "pixel", "fourier2", "fourier3"]


@dataclass(frozen=True)
class Gram:
    """B^H diag(values) B.

    ``basis`` names B: "scalar" (a multiple of the identity, any basis), "pixel" (B = I), "fourier2"
    and "fourier3" (orthonormal DFT over the last 2 or 3 axes, full spectrum, not centred).
    ``values`` is 0-d for "scalar" (or (B, 1, …) when per sample), else (1 or B, *event) and broadcasts
    against the array it acts on.
    """

    basis: Basis
    values: torch.Tensor

    @staticmethod
    def scalar(value: float | torch.Tensor) -> "Gram":
        # float64, and 0-d: it takes the precision and device of whatever it meets, losing nothing before.
        return Gram("scalar", torch.as_tensor(value, dtype=None if isinstance(value, torch.Tensor) else torch.float64))

    @staticmethod
    def of(basis: Basis, values: torch.Tensor, rank: int) -> "Gram":
        """From values with or without a batch axis; ``rank`` is that of the event."""
        return Gram(basis, values if values.ndim == rank + 1 else values[None])

    def abs2(self) -> "Gram":
        """|values|²: the Gram of A^H A when self is the diagonal of A."""
        v = self.values
        return Gram(self.basis, (v * v.conj()).real if v.is_complex() else v * v)

    def conj(self) -> "Gram":
        return Gram(self.basis, self.values.conj())

    def times(self, other: "Gram") -> "Gram | None":
        """The product, where both are diagonal in one basis."""
        return self._combine(other, torch.mul)

    def plus(self, other: "Gram") -> "Gram | None":
        """The sum, where both are diagonal in one basis."""
        return self._combine(other, torch.add)

    def _combine(self, other: "Gram", how) -> "Gram | None":
        if "scalar" in (self.basis, other.basis) or self.basis == other.basis:
            basis = other.basis if self.basis == "scalar" else self.basis
            return Gram(basis, how(self.values, other.values))
        return None

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """B^H diag(values) B x."""
        return self._filter(x, lambda d: d)

    def solve(self, b: torch.Tensor, tau: Scalar) -> torch.Tensor:
        """(I + tau·G)^-1 b, tau ≥ 0 a number or (B,)."""
        t = expand(tau, b)
        return self._filter(b, lambda d: 1 / (1 + t * d))

    def pinv(self, b: torch.Tensor, rtol: float = 1e-12) -> torch.Tensor:
        """G^+ b; entries below ``rtol`` of the largest (1e-6 squared, as singular values of A) are zero."""
        floor = self.values.abs().max() * max(rtol, 4 * torch.finfo(self.values.abs().dtype).eps)

        def invert(d: torch.Tensor) -> torch.Tensor:
            return torch.where(d.abs() > floor, 1 / torch.where(d.abs() > floor, d, torch.ones_like(d)), 0 * d)

        return self._filter(b, invert)

    def max(self, batch: int | None) -> torch.Tensor:
        """The largest entry: 0-d, or (batch,) when the operator has per-sample parameters."""
        v = self.values.real if self.values.is_complex() else self.values
        if batch is None:
            return v.max()
        return v.flatten(1).max(1).values.expand(batch) if v.ndim else v.expand(batch)

    def _filter(self, x: torch.Tensor, function) -> torch.Tensor:
        if self.basis in ("scalar", "pixel"):
            return function(self.values.to(x.real.dtype if not self.values.is_complex() else x.dtype)) * x
        n = 2 if self.basis == "fourier2" else 3
        axes = tuple(range(-n, 0))
        if x.is_complex():
            return torch.fft.ifftn(torch.fft.fftn(x, dim=axes) * function(self.values), dim=axes)
        half = self.values[..., : x.shape[-1] // 2 + 1]
        return torch.fft.irfftn(torch.fft.rfftn(x, dim=axes) * function(half), s=x.shape[-n:], dim=axes)
