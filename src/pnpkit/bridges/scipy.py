"""``scipy.sparse.linalg.LinearOperator``, sparse and dense matrices, both ways."""

from typing import Any

import numpy as np
import torch

from pnpkit.bridges.wrapped import WrappedArrays, one_flat_axis
from pnpkit.errors import ShapeError
from pnpkit.operators.base import LinearOperator
from pnpkit.types import Shape


def from_scipy(matrix: Any, in_shape: Shape, out_shape: Shape | None = None) -> LinearOperator:
    """A matrix, sparse matrix or ``LinearOperator`` (m, n) as an operator on images.

    in_shape : (C, H, W) with C·H·W = n, rows of pixels in C order. out_shape : with m entries; (m,) when None.

    Complex where the matrix is; a real matrix acts on real images.
    """
    from scipy.sparse.linalg import aslinearoperator

    a = aslinearoperator(matrix)
    m, n = a.shape
    out_shape = (m,) if out_shape is None else tuple(out_shape)
    if int(np.prod(in_shape)) != n or int(np.prod(out_shape)) != m:
        raise ShapeError(f"from_scipy: a {m}×{n} matrix cannot map images {tuple(in_shape)} to {out_shape}.")
    is_complex = np.issubdtype(a.dtype, np.complexfloating)
    operator = WrappedArrays(
        mapping=Columns(a.matmat, out_shape),
        adjoint_mapping=Columns(a.rmatmat, tuple(in_shape)),
        in_shape=tuple(in_shape),
        out_shape=out_shape,
        complex_in=is_complex,
        complex_out=is_complex,
    )
    return operator.double() if a.dtype in (np.float64, np.complex128) else operator


class Columns:
    """A product with a matrix of columns, on a batch of arrays."""

    def __init__(self, product: Any, shape: Shape):
        self.product, self.shape = product, shape

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(self.product(x.reshape(len(x), -1).T).T).reshape(-1, *self.shape)


def to_scipy(operator: LinearOperator):
    """A linear operator as ``scipy.sparse.linalg.LinearOperator`` (m, n) on flat vectors, for SciPy's solvers.

    Several columns go through as one batch. Operators with per-sample parameters have no such form.
    """
    from scipy.sparse import linalg

    make: Any = linalg.LinearOperator

    n, m = one_flat_axis(operator)
    if operator.batch is not None:
        raise ShapeError(f"to_scipy: {type(operator).__name__} has one parameter per sample; select one with .select.")

    def across(call: Any, shape: Shape, dtype: torch.dtype):
        def product(x: np.ndarray) -> np.ndarray:
            columns = torch.from_numpy(np.ascontiguousarray(x.reshape(x.shape[0], -1).T)).to(dtype)
            with torch.no_grad():
                out = call(columns.reshape(-1, *shape).to(operator.device)).flatten(1)
            return out.cpu().resolve_conj().numpy().T.reshape(-1, *x.shape[1:])

        return product

    forward = across(operator, operator.in_shape, operator.in_dtype)
    adjoint = across(operator.adjoint, operator.out_shape, operator.out_dtype)
    dtype = np.dtype(str(operator.out_dtype).removeprefix("torch."))
    return make((m, n), matvec=forward, rmatvec=adjoint, matmat=forward, rmatmat=adjoint, dtype=dtype)
