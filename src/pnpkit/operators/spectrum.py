"""Functions of an operator's singular values, through its structure and not through an explicit decomposition."""

from collections.abc import Callable

import torch

from pnpkit.errors import CapabilityError
from pnpkit.linalg import dense
from pnpkit.operators.base import LinearOperator

SMALL = 1024  # pixels up to which the normal matrix is decomposed densely
Function = Callable[[torch.Tensor], torch.Tensor]  # of squared singular values, element by element


def has_spectrum(operator: LinearOperator) -> bool:
    """Whether ``Spectrum`` takes this operator: AᴴA or AAᴴ diagonal in a known basis, or a small image."""
    if operator.gram() is not None or operator.cogram() is not None:
        return True
    return operator.batch is None and torch.Size(operator.in_shape).numel() <= SMALL


class Spectrum:
    """A = U·diag(s)·Vᴴ, used as x -> V f(s²) Vᴴ x and y -> V f(s²) s⁺ Uᴴ y.

    Values s² below 1e-12 of the largest (and the rounding of the precision) count as 0. ``f`` is given s² in the shape
    of, or broadcasting against, what it multiplies, and of the same rank: (1 or B, …).
    """

    def __init__(self, operator: LinearOperator):
        if not has_spectrum(operator):
            raise CapabilityError(
                f"{type(operator).__name__} has no cheap singular value decomposition: neither A^H A nor A A^H is "
                f"diagonal in a known basis, and the image has more than {SMALL} pixels. Use a sampler that needs only "
                "a linear operator (pnp_dm, diffpir, pigdm)."
            )
        self.operator, self.gram, self.cogram = operator, operator.gram(), None
        if self.gram is None:
            self.cogram = operator.cogram()
        self.floor = 4 * torch.finfo(operator.dtype).eps
        if self.gram is None and self.cogram is None:
            self.values, self.vectors = operator.derived("dense_spectrum", self._decompose)

    def _decompose(self) -> tuple[torch.Tensor, torch.Tensor]:
        op = self.operator
        with torch.no_grad():
            normal = dense(op._normal, op.in_shape, op.in_dtype, op.device)
        values, vectors = torch.linalg.eigh(0.5 * (normal + normal.mH))
        return values.clamp_min(0), vectors

    def image(self, x: torch.Tensor, f: Function) -> torch.Tensor:
        """V f(s²) Vᴴ x, with f(0) on what A does not see; x (B, *in_shape)."""
        if self.gram is not None:
            return self.gram._filter(x, self._cut(f, x.ndim))
        if self.cogram is not None:
            zero = f(torch.zeros((1,) * x.ndim, dtype=x.real.dtype, device=x.device))
            z = self.operator._forward(x)
            seen = self.cogram._filter(z, self._divided(lambda d: f(d) - f(0 * d), z.ndim))
            return zero * x + self.operator._adjoint(seen)
        return self._dense(x, self._cut(f, x.ndim))

    def data(self, y: torch.Tensor, f: Function) -> torch.Tensor:
        """V f(s²) s⁺ Uᴴ y, (B, *in_shape): with f = 1 the pseudo-inverse."""
        if self.gram is not None:
            return self.gram._filter(self.operator._adjoint(y), self._divided(f, len(self.operator.in_shape) + 1))
        if self.cogram is not None:
            return self.operator._adjoint(self.cogram._filter(y, self._divided(f, y.ndim)))
        return self._dense(self.operator._adjoint(y), self._divided(f, len(self.operator.in_shape) + 1))

    def _dense(self, x: torch.Tensor, f: Function) -> torch.Tensor:
        weights = f(self.values.reshape(1, *[1] * (x.ndim - 2), -1)).reshape(-1, len(self.values))
        along = x.flatten(1) @ self.vectors.conj()
        return ((along * weights) @ self.vectors.T).reshape(x.shape)

    def _cut(self, f: Function, rank: int) -> Function:
        def cut(d: torch.Tensor) -> torch.Tensor:
            d = _lifted(d, rank)
            return f(torch.where(d > self.floor * d.max(), d, 0))

        return cut

    def _divided(self, f: Function, rank: int) -> Function:
        def quotient(d: torch.Tensor) -> torch.Tensor:
            d = _lifted(d, rank)
            seen = d > self.floor * d.max()
            return torch.where(seen, f(torch.where(seen, d, 0)) / torch.where(seen, d, 1), 0)

        return quotient


def _lifted(d: torch.Tensor, rank: int) -> torch.Tensor:
    """Real, and of this rank where it is a single number."""
    d = d.real if d.is_complex() else d
    return d.reshape((1,) * rank) if d.ndim == 0 else d
