"""Operators made of operators: A @ B, A + B, c * A, A.H, Stack, and row selection.

Each passes its parts' structure on through ``diagonal``, ``_pull`` and ``_push``, so a composition
keeps a closed form wherever one exists.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar, Self

import torch

from pnpkit.errors import ShapeError, SpecError
from pnpkit.operators.base import LinearOperator, Operator
from pnpkit.operators.gram import Gram
from pnpkit.types import Shape


class _Nested(Operator):
    """Children are modules called "0", "1", …; their thetas are reached as "0.kernel"."""

    def _adopt(self, operators: tuple[Operator, ...]) -> None:
        first = operators[0]
        for other in operators[1:]:
            if (other.dtype, other.device) != (first.dtype, first.device):
                raise ShapeError(
                    f"{type(self).__name__}: {type(first).__name__} is {first.dtype} on {first.device}, "
                    f"{type(other).__name__} {other.dtype} on {other.device}; move one with .to()."
                )
        self._anchor = torch.zeros(0, dtype=first.dtype, device=first.device)
        for i, operator in enumerate(operators):
            self.add_module(str(i), operator)

    @property
    def operators(self) -> tuple[Operator, ...]:
        return tuple(self._modules.values())  # type: ignore[arg-type]

    @property
    def theta(self) -> Mapping[str, int]:  # type: ignore[override]
        return {f"{i}.{n}": rank for i, child in enumerate(self.operators) for n, rank in child.theta.items()}

    def example_theta(self, rng: torch.Generator) -> dict[str, torch.Tensor]:
        return {f"{i}.{n}": v for i, child in enumerate(self.operators) for n, v in child.example_theta(rng).items()}


def compose_operators(outer: Operator, inner: Operator) -> Operator:
    """``outer @ inner``, flattened."""
    if not isinstance(inner, Operator):
        raise SpecError(f"A @ B composes operators, given {type(inner).__name__}; to apply one, call A(x).")
    parts = [p for op in (outer, inner) for p in (op.operators if isinstance(op, Compose | Chain) else (op,))]
    cls = Compose if all(isinstance(p, LinearOperator) for p in parts) else Chain
    return cls(operators=tuple(parts))


def _check_chain(operators: tuple[Operator, ...]) -> None:
    if not operators:
        raise SpecError("A composition needs at least one operator.")
    for outer, inner in pairwise(operators):
        if (inner.dtype, inner.device) != (outer.dtype, outer.device):
            raise ShapeError(
                f"{type(outer).__name__} @ {type(inner).__name__}: the inner one is {inner.dtype} on {inner.device}, "
                f"outer one {outer.dtype} on {outer.device}; move one with .to()."
            )
        if (inner.out_shape, inner.out_dtype) != (outer.in_shape, outer.in_dtype):
            raise ShapeError(
                f"{type(outer).__name__} @ {type(inner).__name__}: the inner one gives {inner.out_shape} "
                f"{inner.out_dtype}, the outer one takes {outer.in_shape} {outer.in_dtype}."
            )


class Chain(_Nested):
    """``A @ B @ …`` with a non-linear member: x -> A(B(…(x)))."""

    def __init__(self, operators: tuple[Operator, ...]):
        _check_chain(operators)
        first, last = operators[0], operators[-1]
        super().__init__(last.in_shape, first.out_shape, last.in_dtype.is_complex, first.out_dtype.is_complex)
        self._adopt(operators)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        for op in reversed(self.operators):
            x = op._forward(x)
        return x

    @classmethod
    def example(cls) -> Self:
        from pnpkit.operators.in_theta import InTheta
        from pnpkit.operators.inpainting import Inpainting

        mask = Inpainting.example()
        rng = torch.Generator().manual_seed(0)
        x = torch.rand(1, *mask.in_shape, generator=rng)
        return cls(operators=(mask, InTheta(operator=mask, parameter="mask", x=x)))


class Compose(_Nested, LinearOperator):
    """``A @ B @ …`` of linear operators: x -> A(B(…(x)))."""

    def __init__(self, operators: tuple[LinearOperator, ...]):
        _check_chain(operators)
        first, last = operators[0], operators[-1]
        super().__init__(last.in_shape, first.out_shape, last.in_dtype.is_complex, first.out_dtype.is_complex)
        self._adopt(operators)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        for op in reversed(self.operators):
            x = op._forward(x)
        return x

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        for op in self.operators:
            y = op._adjoint(y)  # type: ignore[attr-defined]
        return y

    def _normal(self, x: torch.Tensor) -> torch.Tensor:
        if (g := self.gram()) is not None:
            return g.apply(x)
        outer, *inner = self.operators  # the outermost normal operator may be fused or closed
        for op in reversed(inner):
            x = op._forward(x)
        x = outer._normal(x)  # type: ignore[attr-defined]
        for op in inner:
            x = op._adjoint(x)  # type: ignore[attr-defined]
        return x

    def diagonal(self) -> Gram | None:
        product: Gram | None = Gram.scalar(1.0)
        for op in self.operators:
            d = op.diagonal()  # type: ignore[attr-defined]
            product = None if product is None or d is None else product.times(d)
        return product

    def _pull(self, g: Gram) -> Gram | None:
        pulled: Gram | None = g
        for op in self.operators:
            pulled = None if pulled is None else op._pull(pulled)  # type: ignore[attr-defined]
        return pulled

    def _push(self, g: Gram) -> Gram | None:
        pushed: Gram | None = g
        for op in reversed(self.operators):
            pushed = None if pushed is None else op._push(pushed)  # type: ignore[attr-defined]
        return pushed

    @classmethod
    def example(cls) -> Self:
        from pnpkit.operators.diagonal import Diagonal
        from pnpkit.operators.inpainting import Inpainting

        return cls(operators=(Inpainting.example(), Diagonal.example()))


class Sum(_Nested, LinearOperator):
    """``A + B + …`` of linear operators between the same spaces."""

    def __init__(self, operators: tuple[LinearOperator, ...]):
        if not operators:
            raise SpecError("A sum needs at least one operator.")
        first = operators[0]
        for other in operators[1:]:
            spaces = [(o.in_shape, o.in_dtype, o.out_shape, o.out_dtype) for o in (first, other)]
            if spaces[0] != spaces[1]:
                raise ShapeError(f"A + B needs operators between the same spaces, given {first!r} and {other!r}.")
        super().__init__(first.in_shape, first.out_shape, first.in_dtype.is_complex, first.out_dtype.is_complex)
        self._adopt(operators)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        first, *rest = self.operators
        total = first._forward(x)
        for op in rest:
            total = total + op._forward(x)
        return total

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        first, *rest = self.operators
        total = first._adjoint(y)  # type: ignore[attr-defined]
        for op in rest:
            total = total + op._adjoint(y)  # type: ignore[attr-defined]
        return total

    def diagonal(self) -> Gram | None:
        total: Gram | None = Gram.scalar(0.0)
        for op in self.operators:
            d = op.diagonal()  # type: ignore[attr-defined]
            total = None if total is None or d is None else total.plus(d)
        return total

    @classmethod
    def example(cls) -> Self:
        from pnpkit.operators.diagonal import Diagonal
        from pnpkit.operators.inpainting import Inpainting

        return cls(operators=(Inpainting.example(), Diagonal.example()))


class _Wrapped(_Nested, LinearOperator):
    """One child; its theta "kernel" is "0.kernel" here."""

    @property
    def operator(self) -> LinearOperator:
        return self.operators[0]  # type: ignore[return-value]


class Scaled(_Wrapped):
    """``factor * A``."""

    def __init__(self, operator: LinearOperator, factor: float):
        super().__init__(
            operator.in_shape, operator.out_shape, operator.in_dtype.is_complex, operator.out_dtype.is_complex
        )
        self._adopt((operator,))
        self.factor = factor

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * self.operator._forward(x)

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return self.factor * self.operator._adjoint(y)

    def _normal(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor**2 * self.operator._normal(x)

    def diagonal(self) -> Gram | None:
        d = self.operator.diagonal()
        return None if d is None else Gram.scalar(self.factor).times(d)

    def _pull(self, g: Gram) -> Gram | None:
        pulled = self.operator._pull(g)
        return None if pulled is None else Gram.scalar(self.factor**2).times(pulled)

    def _push(self, g: Gram) -> Gram | None:
        pushed = self.operator._push(g)
        return None if pushed is None else Gram.scalar(self.factor**2).times(pushed)

    @classmethod
    def example(cls) -> Self:
        from pnpkit.operators.inpainting import Inpainting

        return cls(operator=Inpainting.example(), factor=-0.7)


class Adjoint(_Wrapped):
    """``A.H``."""

    def __init__(self, operator: LinearOperator):
        super().__init__(
            operator.out_shape, operator.in_shape, operator.out_dtype.is_complex, operator.in_dtype.is_complex
        )
        self._adopt((operator,))

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.operator._adjoint(x)

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return self.operator._forward(y)

    def diagonal(self) -> Gram | None:
        d = self.operator.diagonal()
        return None if d is None else d.conj()

    def _pull(self, g: Gram) -> Gram | None:
        return self.operator._push(g)

    def _push(self, g: Gram) -> Gram | None:
        return self.operator._pull(g)

    @classmethod
    def example(cls) -> Self:
        from pnpkit.operators.inpainting import Inpainting

        return cls(operator=Inpainting.example())


class Stack(_Nested, LinearOperator):
    """Several measurements of one image, as one flat tensor: y = join(A_0 x, A_1 x, …).

    ``split`` gives the parts back in their own shapes; ``SplitLikelihood(parts, sizes=stack.sizes)`` is
    the matching noise model. Real and complex measurements cannot be stacked.
    """

    row_axis: ClassVar[int] = -1

    def __init__(self, operators: tuple[LinearOperator, ...]):
        if not operators:
            raise SpecError("A stack needs at least one operator.")
        first = operators[0]
        for other in operators[1:]:
            if (other.in_shape, other.in_dtype, other.out_dtype) != (first.in_shape, first.in_dtype, first.out_dtype):
                raise ShapeError(
                    f"Stack: all operators must take the same images and give the same dtype; given {first!r} and "
                    f"{other!r}. Stack real and imaginary parts of a complex measurement separately."
                )
        size = sum(torch.Size(op.out_shape).numel() for op in operators)
        super().__init__(first.in_shape, (size,), first.in_dtype.is_complex, first.out_dtype.is_complex)
        self._adopt(operators)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of measurements of each part."""
        return tuple(torch.Size(op.out_shape).numel() for op in self.operators)

    def split(self, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(B, sum of sizes) -> the parts, (B, *out_shape) each."""
        pieces = y.split(self.sizes, dim=1)
        return tuple(p.reshape(p.shape[0], *op.out_shape) for p, op in zip(pieces, self.operators, strict=True))

    def join(self, parts: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """The inverse of ``split``."""
        if tuple(p.shape[1:] for p in parts) != tuple(op.out_shape for op in self.operators):
            raise ShapeError(
                f"Stack.join: expected parts {[op.out_shape for op in self.operators]}, "
                f"given {[tuple(p.shape[1:]) for p in parts]}."
            )
        return torch.cat([p.flatten(1) for p in parts], 1)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([op._forward(x).flatten(1) for op in self.operators], 1)

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        parts = zip(self.operators, self.split(y), strict=True)
        return torch.stack([op._adjoint(piece) for op, piece in parts]).sum(0)  # type: ignore[attr-defined]

    def _normal(self, x: torch.Tensor) -> torch.Tensor:
        if (g := self.gram()) is not None:
            return g.apply(x)
        return torch.stack([op._normal(x) for op in self.operators]).sum(0)  # type: ignore[attr-defined]

    def _pull(self, g: Gram) -> Gram | None:
        if g.basis not in ("scalar", "pixel"):
            return None
        total: Gram | None = Gram.scalar(0.0)
        for op, part in zip(self.operators, self._parts_of(g), strict=True):
            pulled = op._pull(part)  # type: ignore[attr-defined]
            total = None if total is None or pulled is None else total.plus(pulled)
        return total

    def _parts_of(self, g: Gram) -> list[Gram]:
        if g.basis == "scalar":
            return [g] * len(self.operators)
        parts = []
        for piece, op in zip(g.values.split(self.sizes, dim=1), self.operators, strict=True):
            flat = bool((piece == piece[:, :1]).all())  # one sigma for the whole part: still a scalar for it
            shape = [1] * len(op.out_shape)
            parts.append(
                Gram("scalar", piece[:, 0].reshape(-1, *shape) if piece.shape[0] > 1 else piece[0, 0])
                if flat
                else Gram("pixel", piece.reshape(-1, *op.out_shape))
            )
        return parts

    def _push(self, g: Gram) -> Gram | None:
        return None

    @classmethod
    def example(cls) -> Self:
        from pnpkit.operators.diagonal import Diagonal
        from pnpkit.operators.inpainting import Inpainting

        return cls(operators=(Inpainting.example(), Diagonal.example()))


class Rows(LinearOperator):
    """Keep the entries ``index`` along one axis: (…, n, …) -> (…, len(index), …).

    Parameters
    ----------
    shape : shape of the input, without batch.
    index : (m,) distinct integers in [0, n).
    axis : which axis, counted from the end (negative).
    complex : whether the input is complex.
    """

    def __init__(self, shape: Shape, index: torch.Tensor, axis: int = -2, complex: bool = False):
        if not -len(shape) <= axis < 0:
            raise SpecError(f"Rows: axis {axis} must count from the end of {shape}, -1 to {-len(shape)}.")
        n = shape[axis]
        if index.ndim != 1 or index.is_floating_point() or index.numel() == 0:
            raise SpecError(
                f"Rows: index must be a non-empty 1-D integer tensor, given {tuple(index.shape)} {index.dtype}."
            )
        if int(index.min()) < 0 or int(index.max()) >= n or index.unique().numel() != index.numel():
            raise SpecError(f"Rows: indices must be distinct and in [0, {n}).")
        out = list(shape)
        out[axis] = index.numel()
        super().__init__(shape, tuple(out), complex)
        self.shape, self.axis, self.complex = shape, axis, complex
        self.register_buffer("index", index.to(torch.int64).clone())

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.index_select(self.axis, self.index)

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        zero = torch.zeros((y.shape[0], *self.in_shape), dtype=y.dtype, device=y.device)
        return zero.index_copy(self.axis, self.index, y)

    def _pull(self, g: Gram) -> Gram | None:
        if g.basis not in ("scalar", "pixel"):
            return None
        batch = g.values.shape[0] if g.values.ndim else 1
        values = torch.broadcast_to(g.values.to(self.dtype), (batch, *self.out_shape))
        zero = torch.zeros((batch, *self.in_shape), dtype=self.dtype, device=self.device)
        return Gram("pixel", zero.index_copy(self.axis, self.index, values))

    def _push(self, g: Gram) -> Gram | None:
        if g.basis == "scalar":
            return g
        if g.basis != "pixel":
            return None
        batch = g.values.shape[0] if g.values.ndim else 1
        return Gram("pixel", torch.broadcast_to(g.values, (batch, *self.in_shape)).index_select(self.axis, self.index))

    @classmethod
    def example(cls) -> Self:
        return cls(shape=(2, 5, 4), index=torch.tensor([3, 0, 2]))
