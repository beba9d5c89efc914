"""theta -> A(x; theta) at a fixed image: an operator's parameter is just another unknown."""

from typing import Self

import torch

from pnpkit.errors import ShapeError, SpecError
from pnpkit.linalg import expand
from pnpkit.operators.base import LinearOperator, Operator
from pnpkit.types import Scalar, Shape

SMALL = 64  # parameters up to which the normal matrix is formed column by column
AT_ONCE = 2**22  # numbers in the normal matrices of the images that are solved for at a time


def _event(operator: Operator, parameter: str, x: torch.Tensor) -> tuple[Shape, bool]:
    """Event shape and complexness of the parameter, once operator, parameter and image fit together."""
    if parameter not in operator.theta:
        raise SpecError(f"{type(operator).__name__} has no theta {parameter!r}; it has {list(operator.theta)}.")
    if tuple(x.shape[1:]) != operator.in_shape or (x.dtype, x.device) != (operator.in_dtype, operator.device):
        raise ShapeError(
            f"in_theta: x must be (B, {str(operator.in_shape)[1:]} {operator.in_dtype} on {operator.device}, given "
            f"{tuple(x.shape)} {x.dtype} on {x.device}."
        )
    value, rank = operator._get(parameter), operator.theta[parameter]
    return tuple(value.shape[value.ndim - rank :]), value.is_complex()


class InTheta(Operator):
    """theta (B, *event) -> A(x; theta) for fixed x (B, *in_shape) or one x for all, (1, *in_shape).

    ``operator.in_theta(parameter, x)`` makes it. Use ``LinearInTheta`` where A is linear in theta.
    """

    def __init__(self, operator: Operator, parameter: str, x: torch.Tensor):
        event, complex_in = _event(operator, parameter, x)
        super().__init__(event, operator.out_shape, complex_in, operator.out_dtype.is_complex)
        self.hold(x=x)
        self.operator, self.parameter = operator, parameter

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        image = self.x.expand(x.shape[0], *self.x.shape[1:])
        return self.operator.at(**{self.parameter: x})._forward(image)

    @classmethod
    def example(cls) -> Self:
        from pnpkit.operators.inpainting import Inpainting

        rng = torch.Generator().manual_seed(1)
        operator = Inpainting.example()
        return cls(operator=operator, parameter="mask", x=torch.rand(1, *operator.in_shape, generator=rng))


class LinearInTheta(LinearOperator):
    """``InTheta`` for a parameter in the operator's ``linear_in``."""

    def __init__(self, operator: Operator, parameter: str, x: torch.Tensor):
        if parameter not in operator.linear_in:
            raise SpecError(f"{type(operator).__name__} is not linear in {parameter!r}; use InTheta.")
        event, complex_in = _event(operator, parameter, x)
        super().__init__(event, operator.out_shape, complex_in, operator.out_dtype.is_complex)
        self.hold(x=x)
        self.operator, self.parameter = operator, parameter

    _forward = InTheta._forward

    def _prox_l2(self, z: torch.Tensor, y: torch.Tensor, tau: Scalar) -> torch.Tensor:
        """By Cholesky where the normal matrix is known or small, some images at a time; else by CG."""
        most = max(1, AT_ONCE // torch.Size(self.in_shape).numel() ** 2)
        rows = [slice(i, i + most) for i in range(0, self.x.shape[0], most)]
        if (self if len(rows) == 1 else self._part(rows[0]))._matrix is None:
            return super()._prox_l2(z, y, tau)
        if len(rows) == 1:
            return self._solved(z, y, tau)
        taus = [tau[some] if isinstance(tau, torch.Tensor) and tau.ndim else tau for some in rows]
        return torch.cat([self._part(s)._solved(z[s], y[s], t) for s, t in zip(rows, taus, strict=True)])

    def _part(self, rows: slice) -> Self:
        """The same for some of the images."""
        return type(self)(self.operator.select(rows), self.parameter, self.x[rows])

    def _solved(self, z: torch.Tensor, y: torch.Tensor, tau: Scalar) -> torch.Tensor:
        normal = self._matrix
        assert normal is not None
        wide = torch.complex128 if z.is_complex() else torch.float64  # conditions of 1e7 are usual: blurred images
        b = (z + expand(tau, z) * self._adjoint(y)).flatten(1).to(wide)
        system = expand(torch.as_tensor(tau, device=b.device), normal) * normal.to(wide)
        system.diagonal(dim1=-2, dim2=-1).add_(1)
        factor, failed = torch.linalg.cholesky_ex(system)
        found = torch.cholesky_solve(b[..., None], factor)[..., 0]
        whole = (failed == 0)[:, None]  # not of an image that is not finite: the others go on
        return torch.where(whole, found, torch.nan).to(z.dtype).reshape(z.shape)

    @property
    def _matrix(self) -> torch.Tensor | None:
        return self.derived("normal_matrix", self._normal_matrix)

    def _normal_matrix(self) -> torch.Tensor | None:
        if (known := self.operator._normal_in(self.parameter, self.x)) is not None:
            return known
        n, batch = torch.Size(self.in_shape).numel(), self.x.shape[0]
        if n > SMALL:
            return None
        units = torch.eye(n, dtype=self.in_dtype, device=self.x.device).reshape(n, 1, *self.in_shape)
        columns = [self._forward(unit.expand(batch, *self.in_shape)).flatten(1) for unit in units]
        matrix = torch.stack(columns, -1)  # (B, m, n)
        normal = matrix.mH @ matrix
        return normal if self._complex[0] else normal.real if normal.is_complex() else normal

    @classmethod
    def example(cls) -> Self:
        from pnpkit.operators.inpainting import Inpainting

        rng = torch.Generator().manual_seed(1)
        operator = Inpainting.example()
        return cls(operator=operator, parameter="mask", x=torch.rand(1, *operator.in_shape, generator=rng))
