"""The closed-form approximation of the TV prox."""

from typing import Self

import torch
from pydantic import PositiveFloat

from pnpkit.linalg import length
from pnpkit.operators.gradient import Axes, Boundary
from pnpkit.priors.base import Proximable
from pnpkit.priors.tv import differences


class ClosedFormTV(Proximable):
    """P_t(v) = v − t·Dᵀ clip(D v / (4 d t)), t = tau·weight: one difference, one clip, one adjoint.

    Equals a cycle-spun single-level Haar shrinkage with threshold √2·2d·t (Kamilov, TIP 2017; "TV prox in closed
    form", TCI 2025, vol. 11, 1217–1228; the one-line form is a reconstruction, proved in the tests). It is the prox
    of a convex function and a gradient step on the Huber TV with δ = 4 d t, not the prox of TV: the error is O(t), and
    for large t it is a fixed weak blur. Use it with small steps (``closed_form_tv_apg``), not as a denoiser.

    Parameters are those of ``TV``. There is no ``value``: the convex function has no closed form.
    """

    provides = ("prox", "closed_form_tv")
    has_value = False
    degree = 1

    def __init__(self, weight: PositiveFloat, isotropic: bool = True, axes: Axes = 2, boundary: Boundary = "neumann"):
        super().__init__()
        self.weight, self.isotropic, self.axes = weight, isotropic, axes
        self.boundary: Boundary = boundary

    def _prox(self, z: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        d = differences(z, self.axes, self.boundary)
        t = (self.weight * tau).reshape(-1, *[1] * (z.ndim - 1))
        delta = 4 * self.axes * t[:, None]
        g = d._forward(z)
        size = length(g, 1, keepdim=True) if self.isotropic else g.abs()
        return z - t * d._adjoint(g / torch.maximum(size, delta))

    @classmethod
    def example(cls) -> Self:
        return cls(weight=0.3)
