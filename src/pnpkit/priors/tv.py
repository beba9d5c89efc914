"""Total variation, exactly."""

import copy
import functools
import warnings
from typing import NamedTuple, Self

import torch
from pydantic import PositiveFloat, PositiveInt

from pnpkit.errors import ConvergenceWarning
from pnpkit.linalg import expand, inner, length
from pnpkit.operators.gradient import Axes, Boundary, Gradient
from pnpkit.priors.base import Proximable
from pnpkit.priors.l1 import L1
from pnpkit.types import Shape

CHECK_EVERY = 10  # iterations between two looks at the duality gap


@functools.lru_cache(maxsize=32)
def gradient(shape: Shape, axes: int, boundary: Boundary, dtype: torch.dtype, device: torch.device) -> Gradient:
    """The difference operator for images of this shape."""
    return Gradient(shape=shape, axes=axes, boundary=boundary, complex=dtype.is_complex).to(device, dtype.to_real())


def differences(x: torch.Tensor, axes: int, boundary: Boundary) -> Gradient:
    """The difference operator for this image."""
    return gradient(tuple(x.shape[1:]), axes, boundary, x.dtype, x.device)


class TV(Proximable):
    """weight · TV(x): Σ of gradient norms (isotropic) or of absolute differences (anisotropic), per channel.

    The prox solves the dual by accelerated projected gradient (Beck & Teboulle, TIP 2009) until the duality gap is
    ``tol`` of the objective, per sample. Inside long solves PDHG is cheaper: it splits TV into its terms.

    Parameters
    ----------
    weight : > 0, in units of 1/x.
    isotropic : Euclidean norm over the axes, or their sum.
    axes : how many trailing axes are differenced, 1 to 3.
    boundary : "neumann" or "circular".
    tol, max_iter : of the inner iteration; ConvergenceWarning when ``tol`` is missed a hundredfold.
    """

    degree = 1

    def __init__(
        self,
        weight: PositiveFloat,
        isotropic: bool = True,
        axes: Axes = 2,
        boundary: Boundary = "neumann",
        tol: PositiveFloat = 1e-5,
        max_iter: PositiveInt = 500,
    ):
        super().__init__()
        self.weight, self.isotropic, self.axes = weight, isotropic, axes
        self.boundary: Boundary = boundary
        self.tol, self.max_iter = tol, max_iter

    def _size(self, g: torch.Tensor) -> torch.Tensor:
        """Norms whose sum is TV, (B, …), from differences (B, axes, …)."""
        return length(g, 1) if self.isotropic else g.abs()

    def _value(self, x: torch.Tensor) -> torch.Tensor:
        g = differences(x, self.axes, self.boundary)._forward(x)
        return self.weight * self._size(g).flatten(1).sum(1)

    def _prox(self, z: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        d, w = differences(z, self.axes, self.boundary), self.weight * tau
        tol = max(self.tol, 100 * torch.finfo(tau.dtype).eps)  # a smaller gap is rounding
        x, gaps = z.clone(), torch.zeros_like(tau)
        left = torch.arange(len(z), device=z.device)  # samples still to be solved
        dual = _Dual.zero(d, z)
        for k in range(1, self.max_iter + 1):
            before, dual = dual, self._ascend(d, z, w, dual)
            if k % CHECK_EVERY and k < self.max_iter:
                continue
            now, gap = self._primal(d, z, w, dual.p)
            x, gaps = x.index_copy(0, left, now), gaps.index_copy(0, left, gap)
            open_ = gap > tol
            if not bool(open_.any()):
                break
            dual = dual.restarted(before)
            if not bool(open_.all()):
                z, w, left = z[open_], w[open_], left[open_]
                dual = _Dual(*(part[open_] for part in dual))
        self._warn(gaps, tol)
        return x

    def _ascend(self, d: Gradient, z: torch.Tensor, w: torch.Tensor, dual: "_Dual") -> "_Dual":
        """One accelerated step on the dual: p in [−w, w] per difference, or ‖p‖ ≤ w per pixel."""
        g = d._forward(d.subtract_adjoint(z, dual.v))
        p = self._project(dual.v + g / (4 * self.axes), expand(w, g))
        t = (1 + (1 + 4 * dual.t**2).sqrt()) / 2
        return _Dual(p, p + expand((dual.t - 1) / t, p) * (p - dual.p), t)

    def _project(self, p: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        if not self.isotropic and not p.is_complex():
            return torch.clamp(p, -w, w)
        square = (p * p.conj()).real if p.is_complex() else p.square()
        square = square.sum(1, keepdim=True) if self.isotropic else square
        tiny = torch.finfo(w.dtype).tiny
        return p * (w * torch.maximum(square, w * w).clamp_min(tiny).rsqrt())

    def _primal(
        self, d: Gradient, z: torch.Tensor, w: torch.Tensor, p: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """x = z − Dᵀp, and its duality gap Σ (w|Dx| − ⟨Dx, p⟩) relative to the objective, (B,)."""
        x = d.subtract_adjoint(z, p)
        g = d._forward(x)
        tv, moved = w * self._size(g).flatten(1).sum(1), x - z
        objective = 0.5 * inner(moved, moved) + tv
        return x, (tv - inner(g, p)) / torch.where(objective > 0, objective, 1)

    def _warn(self, gaps: torch.Tensor, tol: float) -> None:
        if bool((gaps > 100 * tol).any()):
            warnings.warn(
                f"TV.prox: duality gap {float(gaps.max()):.1e} after {self.max_iter} iterations, wanted {tol:.1e}; "
                "raise max_iter.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def terms(self, shape: Shape, dtype: torch.dtype):
        d = gradient(tuple(shape), self.axes, self.boundary, dtype, torch.device("cpu"))
        # A copy: a solver that moves it to its device must not move the remembered one.
        return ((copy.copy(d), L1(weight=self.weight, group=0 if self.isotropic else None)),)

    @classmethod
    def example(cls) -> Self:
        return cls(weight=0.3, tol=1e-7, max_iter=5000)


class _Dual(NamedTuple):
    """A dual field, its extrapolation and its momentum counter (B,)."""

    p: torch.Tensor
    v: torch.Tensor
    t: torch.Tensor

    @classmethod
    def zero(cls, d: Gradient, z: torch.Tensor) -> "_Dual":
        p = torch.zeros((len(z), *d.out_shape), dtype=z.dtype, device=z.device)
        return cls(p, p, torch.ones(len(z), dtype=z.dtype.to_real(), device=z.device))

    def restarted(self, before: "_Dual") -> "_Dual":
        """Momentum is dropped in samples that it carries uphill (O'Donoghue & Candès 2015)."""
        uphill = inner(before.v - self.p, self.p - before.p) > 0
        return _Dual(self.p, torch.where(expand(uphill, self.p), self.p, self.v), torch.where(uphill, 1, self.t))
