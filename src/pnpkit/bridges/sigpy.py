"""sigpy's Linops and Proxes, both ways: arrays without batch, axes as sigpy has them."""

from typing import Any

import numpy as np
import torch

from pnpkit.bridges.wrapped import WrappedArrays, image_shape, one_flat_axis
from pnpkit.errors import ShapeError, SpecError
from pnpkit.operators.base import LinearOperator
from pnpkit.priors.base import Proximable
from pnpkit.types import Shape


def from_sigpy(linop: Any, in_shape: Shape | None = None, complex: bool = True) -> LinearOperator:
    """A ``sigpy.linop.Linop`` as an operator; sample by sample, with its own adjoint ``linop.H``.

    in_shape : of images, the Linop's ``ishape`` with axes of size 1 added; None: (1, H, W) for (H, W), else as it is.
    complex : sigpy does not say; its MRI operators are complex.
    """
    shape = image_shape(tuple(linop.ishape)) if in_shape is None else tuple(in_shape)
    if int(np.prod(shape)) != int(np.prod(linop.ishape)):
        raise ShapeError(f"from_sigpy: the Linop takes {tuple(linop.ishape)}, images are {shape}.")
    out_shape = image_shape(tuple(linop.oshape))
    return WrappedArrays(
        mapping=OneByOne(linop, linop.ishape, out_shape),
        adjoint_mapping=OneByOne(linop.H, linop.oshape, shape),
        in_shape=shape,
        out_shape=out_shape,
        complex_in=complex,
        complex_out=complex,
    )


class OneByOne:
    """A sigpy Linop on each array of a batch."""

    def __init__(self, linop: Any, shape: Shape, out_shape: Shape):
        self.linop, self.shape, self.out_shape = linop, tuple(shape), tuple(out_shape)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.stack([self.linop(one.reshape(self.shape)).reshape(self.out_shape) for one in x])


def to_sigpy(operator: LinearOperator):
    """A linear operator as a ``sigpy.linop.Linop``: ``ishape`` and ``oshape`` are our shapes without batch."""
    from sigpy.linop import Linop

    one_flat_axis(operator)

    class FromPnpkit(Linop):
        def __init__(self, call: Any, back: Any, ishape: Shape, oshape: Shape, dtypes: tuple[torch.dtype, ...]):
            self.call, self.back, self.dtypes = call, back, dtypes  # of what goes in, of what comes out
            super().__init__(list(oshape), list(ishape), repr_str=type(operator).__name__)

        def _apply(self, array: np.ndarray) -> np.ndarray:
            x = torch.from_numpy(np.ascontiguousarray(array)).to(self.dtypes[0])
            with torch.no_grad():
                return self.call(x[None].to(operator.device))[0].cpu().resolve_conj().numpy()

        def _adjoint_linop(self) -> Linop:
            return FromPnpkit(self.back, self.call, tuple(self.oshape), tuple(self.ishape), self.dtypes[::-1])

    dtypes = (operator.in_dtype, operator.out_dtype)
    return FromPnpkit(operator, operator.adjoint, operator.in_shape, operator.out_shape, dtypes)


class SigpyProx(Proximable):
    """A ``sigpy.prox.Prox`` as a proximable function without a value; made by ``prox_from_sigpy``."""

    has_value = False

    def __init__(self, prox: object):
        super().__init__()
        self.theirs = prox

    def _prox(self, z: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        theirs: Any = self.theirs
        arrays = z.detach().cpu().resolve_conj().numpy()
        out = [
            theirs(float(t), a.reshape(theirs.shape)).reshape(a.shape)
            for t, a in zip(tau.tolist(), arrays, strict=True)
        ]
        stack: Any = np.stack(out)
        # sigpy's thresholds, once used on complex arrays, return complex ones for real arrays too.
        return torch.from_numpy(stack if z.is_complex() else stack.real.copy()).to(z.device, z.dtype)


def prox_from_sigpy(prox: Any) -> Proximable:
    """A ``sigpy.prox.Prox``: prox(alpha, x) = argmin ½‖x − z‖² + alpha·g(z), ours with tau = alpha. No gradients."""
    from sigpy.prox import Prox

    if not isinstance(prox, Prox):
        raise SpecError(f"prox_from_sigpy takes a sigpy.prox.Prox, given {type(prox).__name__}.")
    return SigpyProx(prox=prox)


def prox_to_sigpy(prior: Proximable, shape: Shape):
    """A proximable prior as a ``sigpy.prox.Prox`` on arrays of ``shape``, our images' without batch."""
    from sigpy.prox import Prox

    class FromPnpkit(Prox):
        def _prox(self, alpha: float, array: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                return prior.prox(torch.from_numpy(np.ascontiguousarray(array))[None], float(alpha))[0].numpy()

    return FromPnpkit(tuple(shape), repr_str=type(prior).__name__)
