"""Total variation, exactly."""

import functools
import warnings
from typing import Self

import torch
from pydantic import PositiveFloat, PositiveInt

from pnpkit.errors import ConvergenceWarning
from pnpkit.linalg import inner, length
from pnpkit.operators.gradient import Axes, Boundary, Gradient
from pnpkit.priors.base import Proximable
from pnpkit.priors.l1 import L1
from pnpkit.types import Shape


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
        self.weight, self.isotropic, self.axes, self.boundary = weight, isotropic, axes, boundary
        self.tol, self.max_iter = tol, max_iter

    def _size(self, g: torch.Tensor) -> torch.Tensor:
        """Norms whose sum is TV, (B, …), from differences (B, axes, …)."""
        return length(g, 1) if self.isotropic else g.abs()

    def _value(self, x: torch.Tensor) -> torch.Tensor:
        g = differences(x, self.axes, self.boundary)._forward(x)
        return self.weight * self._size(g).flatten(1).sum(1)

    def _project(self, u: torch.Tensor) -> torch.Tensor:
        size = length(u, 1, keepdim=True) if self.isotropic else u.abs()
        return u / size.clamp_min(1)

    def _prox(self, z: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        d = differences(z, self.axes, self.boundary)
        w = (self.weight * tau).reshape(-1, *[1] * (z.ndim - 1))
        wide = w[:, None]
        u = torch.zeros((z.shape[0], *d.out_shape), dtype=z.dtype, device=z.device)
        v, t, x = u, 1.0, z
        active = torch.ones(z.shape[0], dtype=torch.bool, device=z.device)
        gap = torch.full_like(tau, torch.inf)
        tol = max(self.tol, 100 * torch.finfo(tau.dtype).eps)  # a smaller gap is rounding
        for k in range(self.max_iter):
            step = d._forward(z - w * d._adjoint(v)) / (4 * self.axes * wide)
            new = self._project(v + step)
            t_new = (1 + (1 + 4 * t * t) ** 0.5) / 2
            keep = active.reshape(-1, *[1] * (u.ndim - 1))
            v = torch.where(keep, new + ((t - 1) / t_new) * (new - u), v)
            u, t = torch.where(keep, new, u), t_new
            if k % 10 == 9 or k == self.max_iter - 1:
                x, gap = self._primal(d, z, u, w)
                active = active & (gap > tol)
                if not bool(active.any()):
                    break
        if bool((gap > 100 * tol).any()):
            warnings.warn(
                f"TV.prox: duality gap {float(gap.max()):.1e} after {self.max_iter} iterations, wanted {tol:.1e}; "
                "raise max_iter.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return x

    def _primal(
        self, d: Gradient, z: torch.Tensor, u: torch.Tensor, w: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """x = z − w·Dᵀu and its duality gap relative to the objective, (B,)."""
        x = z - w * d._adjoint(u)
        g = d._forward(x)
        tv = self._size(g).flatten(1).sum(1)
        w1 = w.flatten()
        objective = 0.5 * inner(x - z, x - z) + w1 * tv
        gap = w1 * (tv - inner(g, u))
        return x, gap / torch.where(objective > 0, objective, torch.ones_like(objective))

    def terms(self, shape: Shape, dtype: torch.dtype):
        d = gradient(tuple(shape), self.axes, self.boundary, dtype, torch.device("cpu"))
        return ((d, L1(weight=self.weight, group=0 if self.isotropic else None)),)

    @classmethod
    def example(cls) -> Self:
        return cls(weight=0.3, tol=1e-7, max_iter=5000)
