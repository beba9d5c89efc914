"""Forward differences."""

import math
from typing import Annotated, Literal, Self

import torch
from pydantic import Field

from pnpkit.errors import ShapeError
from pnpkit.operators.base import LinearOperator
from pnpkit.operators.gram import Basis, Gram
from pnpkit.types import Shape

Axes = Annotated[int, Field(ge=1, le=3)]
Boundary = Literal["neumann", "circular"]


class Gradient(LinearOperator):
    """Forward differences x_{i+1} − x_i along the last ``axes`` axes: (C, …) -> (axes, C, …).

    Parameters
    ----------
    shape : image shape (C, …).
    axes : how many trailing axes are differenced, 1 to 3; out[0] is the first of them.
    boundary : "neumann" (the last difference is 0) or "circular" (D^H D is then Fourier-diagonal, so quadratic
        penalties have closed forms).
    complex : whether images are complex.
    """

    row_axis = -1

    def __init__(self, shape: Shape, axes: Axes = 2, boundary: Boundary = "neumann", complex: bool = False):
        shape = tuple(shape)
        if len(shape) < axes:
            raise ShapeError(f"Gradient: {axes} axes of an image {shape}.")
        super().__init__(shape, (axes, *shape), complex)
        self.shape, self.axes, self.boundary, self.complex = shape, axes, boundary, complex

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        out = x.new_empty((x.shape[0], *self.out_shape))
        for i, axis in enumerate(range(-self.axes, 0)):
            part, last = out[:, i], x.shape[axis] - 1
            part.narrow(axis, 0, last).copy_(x.narrow(axis, 1, last)).sub_(x.narrow(axis, 0, last))
            end = part.narrow(axis, last, 1)
            if self.boundary == "circular":
                end.copy_(x.narrow(axis, 0, 1)).sub_(x.narrow(axis, last, 1))
            else:
                end.zero_()
        return out

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return self.subtract_adjoint(torch.zeros_like(y[:, 0]), y, -1.0)

    def subtract_adjoint(self, x: torch.Tensor, y: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        """x − scale·Dᵀy, (B, *in_shape), as a new tensor: what dual methods do in every step, in half the passes."""
        out = x.clone()
        for part, axis in zip(y.unbind(1), range(-self.axes, 0), strict=True):
            last = out.shape[axis] - 1
            inner = part.narrow(axis, 0, last)  # under "neumann" the last entry is not a difference
            out.narrow(axis, 0, last).add_(inner, alpha=scale)
            out.narrow(axis, 1, last).sub_(inner, alpha=scale)
            if self.boundary == "circular":
                end = part.narrow(axis, last, 1)
                out.narrow(axis, last, 1).add_(end, alpha=scale)
                out.narrow(axis, 0, 1).sub_(end, alpha=scale)
        return out

    def _norm(self) -> torch.Tensor:
        """Exact: the eigenvalues of each axis' Laplacian are 4 sin²(π k / n) or 4 sin²(π k / 2n)."""
        total = 0.0
        for n in self.shape[len(self.shape) - self.axes :]:
            angle = math.pi * (n // 2) / n if self.boundary == "circular" else math.pi * (n - 1) / (2 * n)
            total += 4 * math.sin(angle) ** 2
        return torch.tensor(math.sqrt(total), dtype=self.dtype, device=self.device)

    def _pull(self, g: Gram) -> Gram | None:
        """Circular: DᵀD is diagonal in the DFT. One axis is so in the 2-D transform, over the axis before it too."""
        rank = max(self.axes, 2)
        if g.basis != "scalar" or self.boundary != "circular" or rank > len(self.shape):
            return None
        laplacian = torch.zeros(self.shape[len(self.shape) - rank :], dtype=torch.float64, device=self.device)
        for axis in range(-self.axes, 0):
            n = self.shape[axis]
            waves = 4 * torch.sin(math.pi * torch.arange(n, dtype=torch.float64, device=self.device) / n) ** 2
            laplacian = laplacian + waves.reshape(-1, *[1] * (-axis - 1))
        wide = laplacian.to(self.dtype).expand(*[1] * (len(self.shape) - rank), *laplacian.shape)
        basis: Basis = "fourier2" if rank == 2 else "fourier3"
        return Gram.of(basis, wide * g.values, len(self.shape))

    def _push(self, g: Gram) -> Gram | None:
        return None

    @classmethod
    def example(cls) -> Self:
        return cls(shape=(2, 5, 6))
