"""The operator contract: y = A(x; theta).

An author writes ``_forward``; everything else has a correct default. Public methods check and are
final; ``_private`` ones do the work. Arrays are (B, *in_shape) and (B, *out_shape).
"""

import copy
import math
import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self, final

import torch
from torch import nn

from pnpkit import linalg
from pnpkit.errors import CapabilityError, ConvergenceWarning, ShapeError, SpecError, suggest
from pnpkit.operators.gram import Gram
from pnpkit.spec import Component
from pnpkit.types import Scalar, Shape

if TYPE_CHECKING:
    from pnpkit.operators.algebra import Adjoint

TO_COMPLEX = {torch.float16: torch.complex32, torch.float32: torch.complex64, torch.float64: torch.complex128}


@dataclass
class Counter:
    """Calls made on a counted copy of an operator."""

    forward: int = 0
    adjoint: int = 0
    prox: int = 0


@dataclass(frozen=True)
class CGOptions:
    """How prox and pseudo-inverse are solved where there is no closed form; tolerances relative."""

    tol: float = 1e-5
    max_iter: int = 100
    reports: list[linalg.Report] = field(default_factory=list, compare=False)


class Operator(nn.Module, Component):
    """y = A(x; theta), possibly non-linear.

    Class attributes an author may set:

    ``theta``: parameter buffers and the event rank of each, e.g. ``{"kernel": 3}``. A buffer with one
    leading axis more holds one value per sample.
    ``linear_in``: the thetas in which A is linear, at fixed x.
    ``row_axis``: the measurement axis (from the end) that ``rows`` selects along.
    ``expected_failures``: conformance checks known to fail, with the reason.
    """

    kind = "operators"
    linear: ClassVar[bool] = False
    theta: Mapping[str, int] = {}
    linear_in: tuple[str, ...] = ()
    row_axis: ClassVar[int] = -2
    expected_failures: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        in_shape: Shape,  # without batch, (C, H, W) or (C, D, H, W)
        out_shape: Shape | None = None,  # the same when None
        complex_in: bool = False,
        complex_out: bool | None = None,  # as complex_in when None
    ):
        super().__init__()
        self.in_shape = _checked_shape(in_shape, "in_shape")
        self.out_shape = self.in_shape if out_shape is None else _checked_shape(out_shape, "out_shape")
        self._complex = (complex_in, complex_in if complex_out is None else complex_out)
        self.cg = CGOptions()
        self._derived: dict[Any, Any] = {}
        self._counter: Counter | None = None
        # Carries precision and device of an operator that has no tensors of its own.
        self.register_buffer("_anchor", torch.zeros(0), persistent=False)

    if TYPE_CHECKING:  # buffers are attributes: nn.Module declares them as Tensor | Module

        def __getattr__(self, name: str) -> Any: ...

    # --- what an author writes ---

    @abstractmethod
    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        """A(x): (B, *in_shape) -> (B, *out_shape). Must not write into x."""

    @classmethod
    def example(cls) -> Self:
        """A small CPU instance for the conformance suite."""
        raise CapabilityError(
            f"{cls.__name__} has no example(); give it a classmethod that returns a small instance so that "
            "`pnpkit check` can test it."
        )

    def hold(self, **tensors: torch.Tensor) -> None:
        """Keep constructor tensors: cloned into buffers, so the caller's tensor is never shared.

        The operator takes the precision and device of the floating-point tensors it holds; booleans and
        integers (masks) become 0/1 or numbers of that precision. Non-finite values are refused.
        """
        declared = type(self).theta
        for name, rank in declared.items() if isinstance(declared, Mapping) else ():
            if name in tensors and tensors[name].ndim not in (rank, rank + 1):
                raise ShapeError(
                    f"{type(self).__name__}: {name} has {rank} axes, or {rank + 1} with one value per sample; given "
                    f"{tuple(tensors[name].shape)}."
                )
        floats = [t for t in tensors.values() if t.is_floating_point() or t.is_complex()]
        for t in floats:
            if not bool(torch.isfinite(torch.view_as_real(t) if t.is_complex() else t).all()):
                name = next(n for n, v in tensors.items() if v is t)
                raise SpecError(f"{type(self).__name__}: {name} contains NaN or Inf; clean it first.")
        kinds = {(t.dtype.to_real(), t.device) for t in floats}
        if len(kinds) > 1:
            raise SpecError(
                f"{type(self).__name__}: its tensors differ in precision or device: {sorted(map(str, kinds))}"
            )
        for dtype, device in kinds:
            self._anchor = torch.zeros(0, dtype=dtype, device=device)
        for name, t in tensors.items():
            plain = not (t.is_floating_point() or t.is_complex())
            self.register_buffer(name, t.detach().to(self.dtype if plain else t.dtype, copy=True).contiguous())

    # --- types ---

    @property
    def dtype(self) -> torch.dtype:
        """Precision, as a real dtype."""
        return self._anchor.dtype

    @property
    def precision(self) -> torch.dtype:
        return self.dtype

    @property
    def device(self) -> torch.device:
        return self._anchor.device

    @property
    def in_dtype(self) -> torch.dtype:
        return TO_COMPLEX[self.dtype] if self._complex[0] else self.dtype

    @property
    def out_dtype(self) -> torch.dtype:
        return TO_COMPLEX[self.dtype] if self._complex[1] else self.dtype

    @property
    def provides(self) -> tuple[str, ...]:
        """What a solver's ``needs`` refers to: "linear" or "non-linear"; "spectral" where all that depends on singular
        values is cheap (``Spectrum``).
        """
        return ("non-linear",)

    @property
    def batch(self) -> int | None:
        """How many samples the per-sample parameters are for; None without such parameters."""
        sizes = {n: v.shape[0] for n, rank in self.theta.items() if (v := self._get(n)).ndim == rank + 1}
        if len(set(sizes.values())) > 1:
            raise ShapeError(f"{type(self).__name__}: per-sample parameters disagree on the batch: {sizes}")
        return next(iter(sizes.values()), None)

    # --- use ---

    @final
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A(x): (B, *in_shape) -> (B, *out_shape), checked."""
        self._check(x, self.in_shape, self.in_dtype, "x")
        if self._counter is not None:
            self._counter.forward += 1
        return self._forward(x)

    @final
    def vjp(self, x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """J(x)^H v, the gradient of Re⟨v, A(x)⟩: (B, *in_shape). Works inside torch.func."""
        self._check(x, self.in_shape, self.in_dtype, "x")
        self._check(v, self.out_shape, self.out_dtype, "v")
        if self._counter is not None:
            self._counter.adjoint += 1
        return self._vjp(x, v)

    def _vjp(self, x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.func.vjp(self._forward, x)[1](v)[0]

    def initial(self, y: torch.Tensor, rng: torch.Generator | None = None) -> torch.Tensor:
        """A starting image for y when there is no better one, (B, *in_shape)."""
        shape = (y.shape[0], *self.in_shape)
        return torch.randn(shape, dtype=self.in_dtype, device=y.device, generator=rng)

    def example_theta(self, rng: torch.Generator) -> dict[str, torch.Tensor]:
        """Other valid values of the parameters, for the conformance suite: by default near the present ones."""
        return {n: _perturbed(self._get(n), rng) for n in self.theta}

    # --- parameters ---

    @final
    def at(self, **theta: torch.Tensor) -> Self:
        """The same operator with other parameters; nothing is mutated.

        Nested operators are reached by path: ``at(**{"0.kernel": k})``. A value has the event shape of
        the present one, or one leading axis more for one value per sample.
        """
        new = self
        for path, value in theta.items():
            if path not in self.theta:
                raise SpecError(f"{type(self).__name__} has no theta {path!r}.{suggest(path, self.theta)}")
            rank, old = self.theta[path], self._get(path)
            event = old.shape[old.ndim - rank :]
            if value.ndim not in (rank, rank + 1) or value.shape[value.ndim - rank :] != event:
                raise ShapeError(
                    f"{type(self).__name__}: theta {path!r} has event shape {tuple(event)}, given "
                    f"{tuple(value.shape)}; add at most one leading axis, for one value per sample."
                )
            if value.dtype != old.dtype or value.device != old.device:
                raise ShapeError(
                    f"{type(self).__name__}: theta {path!r} is {old.dtype} on {old.device}, given "
                    f"{value.dtype} on {value.device}."
                )
            new = new._with(path.split("."), value)
        return new

    def _with(self, path: list[str], value: Any) -> Self:
        new = copy.copy(self)
        new._derived = {}
        if len(path) == 1:
            new._buffers[path[0]] = value
        else:
            new._modules[path[0]] = self._modules[path[0]]._with(path[1:], value)  # type: ignore[union-attr]
        return new

    def _get(self, path: str) -> torch.Tensor:
        module: nn.Module = self
        *parents, name = path.split(".")
        for parent in parents:
            module = module._modules[parent]  # type: ignore[assignment]
        return module._buffers[name]  # type: ignore[return-value]

    @final
    def select(self, index: slice | torch.Tensor) -> Self:
        """Per-sample parameters of a part of the batch."""
        return self._map_batched(lambda t: t[index])

    @final
    def repeat(self, n: int) -> Self:
        """Per-sample parameters with every sample repeated n times in a row."""
        return self._map_batched(lambda t: t.repeat_interleave(n, 0))

    def _map_batched(self, fn: Callable[[torch.Tensor], torch.Tensor]) -> Self:
        batched = {n: self._get(n) for n, rank in self.theta.items() if self._get(n).ndim == rank + 1}
        new = self
        for name, value in batched.items():
            new = new._with(name.split("."), fn(value))
        return new

    def in_theta(self, name: str, x: torch.Tensor) -> "Operator":
        """theta -> A(x; theta) at fixed x (B, *in_shape): linear when ``name`` is in ``linear_in``."""
        from pnpkit.operators.in_theta import InTheta, LinearInTheta

        if name not in self.theta:
            raise SpecError(f"{type(self).__name__} has no theta {name!r}.{suggest(name, self.theta)}")
        self._check(x, self.in_shape, self.in_dtype, "x")
        new = (LinearInTheta if name in self.linear_in else InTheta)(operator=self, parameter=name, x=x)
        if x.requires_grad:
            new._buffers["x"] = x  # constructors take tensors out of the graph
        return new

    def _normal_in(self, name: str, x: torch.Tensor) -> torch.Tensor | None:
        """MᴴM, (B, n, n), of the linear map M: theta -> A(x; theta) where it is cheap to form; else None."""
        return None

    def rows(self, idx: torch.Tensor) -> "Operator":
        """The measurements ``idx`` along ``row_axis`` only (few views, ordered subsets)."""
        from pnpkit.operators.algebra import Rows

        rows = Rows(shape=self.out_shape, index=idx, axis=self.row_axis, complex=self._complex[1])
        return rows.to(self.device, self.dtype) @ self

    @final
    def counted(self, counter: Counter) -> Self:
        """A copy that counts its calls; shares tensors and caches with this one."""
        new = copy.copy(self)
        new._counter = counter
        return new

    # --- caches ---

    @final
    def derived(self, key: str, compute: Callable[[], Any]) -> Any:
        """``compute()``, remembered until a parameter, the device or the dtype changes.

        Not remembered while a theta needs a gradient. The only place where an operator may cache.
        """
        if self._derived_is_live():
            return compute()
        if key not in self._derived:
            self._derived[key] = compute()
        return self._derived[key]

    def _derived_is_live(self) -> bool:
        return any(b is not None and b.requires_grad for b in self._buffers.values()) or any(
            m._derived_is_live() for m in self._modules.values() if isinstance(m, Operator)
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_derived": {}, "_counter": None}

    def __copy__(self) -> Self:
        """Shares tensors and caches, but has its own slots for them: ``.to()`` moves the copy alone."""
        new = type(self).__new__(type(self))
        vars(new).update(vars(self))
        new._buffers = dict(self._buffers)
        new._modules = {n: copy.copy(m) if isinstance(m, Operator) else m for n, m in self._modules.items()}
        return new

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._derived = {}

    def _apply(self, fn, recurse: bool = True):
        """``.to(float64)`` keeps complexness: complex64 becomes complex128, never real."""
        self._derived = {}
        return super()._apply(lambda t: keep_complexness(fn, t), recurse)

    # --- plumbing ---

    def _check(self, t: torch.Tensor, event: Shape, dtype: torch.dtype, what: str) -> None:
        if not isinstance(t, torch.Tensor):
            raise ShapeError(f"{type(self).__name__}: {what} must be a tensor, given {type(t).__name__}.")
        if t.shape[1:] != event or t.ndim != len(event) + 1:
            hint = " Add the batch axis: x[None]." if t.shape == event else ""
            raise ShapeError(
                f"{type(self).__name__}: {what} has shape {tuple(t.shape)}, expected (B, {str(event)[1:]}.{hint}"
            )
        if t.dtype != dtype:
            raise ShapeError(
                f"{type(self).__name__}: {what} is {t.dtype}, expected {dtype}. Convert {what}, or move the operator "
                f"with .to(torch.float64 or torch.float32); nothing is cast silently."
            )
        if t.device != self.device:
            raise ShapeError(
                f"{type(self).__name__}: {what} is on {t.device}, the operator on {self.device}; use .to(device)."
            )
        batch = self.batch if self.theta else None
        if batch is not None and batch != t.shape[0]:
            raise ShapeError(
                f"{type(self).__name__}: {what} has {t.shape[0]} samples but the parameters are for {batch}; "
                "give one value per sample or one for all."
            )

    def __matmul__(self, other: "Operator") -> "Operator":
        from pnpkit.operators.algebra import compose_operators

        return compose_operators(self, other)

    def extra_repr(self) -> str:
        dtypes = f"{str(self.in_dtype)[6:]} -> {str(self.out_dtype)[6:]}"
        return f"{self.in_shape} -> {self.out_shape}, {dtypes}" + (f", theta={list(self.theta)}" if self.theta else "")


class LinearOperator(Operator):
    """A linear (or, between real and complex spaces, real-linear) operator.

    Authors may override ``_adjoint``, ``_normal``, ``_prox_l2``, ``_pinv``, ``_norm``, or describe the
    structure once: ``diagonal()`` when A itself is diagonal in a basis, ``_pull(G)`` = A^H G A and
    ``_push(G)`` = A G A^H for a diagonal G. From these, closed forms follow and survive composition.
    """

    linear: ClassVar[bool] = True

    # --- structure ---

    @property
    def provides(self) -> tuple[str, ...]:
        from pnpkit.operators.spectrum import has_spectrum

        return ("linear", "spectral") if has_spectrum(self) else ("linear",)

    def diagonal(self) -> Gram | None:
        """A = B^H diag(d) B, when A maps a space to itself and is diagonal in a known basis."""
        return None

    def _pull(self, g: Gram) -> Gram | None:
        """A^H G A as a Gram, or None when it is not diagonal."""
        d = self.derived("diagonal", self.diagonal)
        return None if d is None else d.abs2().times(g)

    def _push(self, g: Gram) -> Gram | None:
        """A G A^H as a Gram, or None when it is not diagonal."""
        d = self.derived("diagonal", self.diagonal)
        return None if d is None else d.abs2().times(g)

    @final
    def gram(self) -> Gram | None:
        """A^H A = B^H diag(d) B with B unitary, or None."""
        return self.derived("gram", lambda: self._pull(Gram.scalar(1.0)))

    @final
    def cogram(self) -> Gram | None:
        """A A^H = B^H diag(d) B with B unitary, or None."""
        return self.derived("cogram", lambda: self._push(Gram.scalar(1.0)))

    # --- use ---

    @final
    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """A^H y: (B, *out_shape) -> (B, *in_shape); the real adjoint for real -> complex maps."""
        self._check(y, self.out_shape, self.out_dtype, "y")
        if self._counter is not None:
            self._counter.adjoint += 1
        return self._adjoint(y)

    @final
    def normal(self, x: torch.Tensor) -> torch.Tensor:
        """A^H A x, through the closed form where there is one."""
        self._check(x, self.in_shape, self.in_dtype, "x")
        if self._counter is not None:
            self._counter.forward += 1
            self._counter.adjoint += 1
        return self._normal(x)

    @final
    def prox_l2(self, z: torch.Tensor, y: torch.Tensor, tau: Scalar) -> torch.Tensor:
        """argmin_x ½‖x − z‖² + tau/2·‖A x − y‖², tau ≥ 0 a number or (B,). Exact where a closed form exists."""
        self._check(z, self.in_shape, self.in_dtype, "z")
        self._check(y, self.out_shape, self.out_dtype, "y")
        tau = checked_tau(tau, z)
        if self._counter is not None:
            self._counter.prox += 1
        return self._prox_l2(z, y, tau)

    @final
    def pinv(self, y: torch.Tensor) -> torch.Tensor:
        """Minimum-norm least-squares solution; singular values below 1e-6 of the largest count as zero."""
        self._check(y, self.out_shape, self.out_dtype, "y")
        return self._pinv(y)

    @final
    def norm(self) -> Scalar:
        """Spectral norm ‖A‖: a 0-d tensor, or (B,) with per-sample parameters."""
        return self.derived("norm", self._norm)

    @property
    @final
    def H(self) -> "Adjoint | LinearOperator":
        """The adjoint as an operator."""
        from pnpkit.operators.algebra import Adjoint

        return self.operator if isinstance(self, Adjoint) else Adjoint(operator=self)

    def initial(self, y: torch.Tensor, rng: torch.Generator | None = None) -> torch.Tensor:
        """The best multiple of A^H y: right scale, one forward call."""
        x = self._adjoint(y)
        back = self._forward(x)
        energy = linalg.inner(back, back)
        step = linalg.inner(x, x) / torch.where(energy > 0, energy, torch.ones_like(energy))
        return linalg.expand(step, x) * x

    # --- defaults ---

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        zero = torch.zeros((y.shape[0], *self.in_shape), dtype=self.in_dtype, device=y.device)
        return torch.func.vjp(self._forward, zero)[1](y)[0]

    def _vjp(self, x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return self._adjoint(v)

    def _normal(self, x: torch.Tensor) -> torch.Tensor:
        g = self.gram()
        return self._adjoint(self._forward(x)) if g is None else g.apply(x)

    def _prox_l2(self, z: torch.Tensor, y: torch.Tensor, tau: Scalar) -> torch.Tensor:
        t = linalg.expand(tau, z)
        if (g := self.gram()) is not None:
            return g.solve(z + t * self._adjoint(y), tau)
        if (g := self.cogram()) is not None:  # Sherman–Morrison–Woodbury, with r = y − A z
            r = y - self._forward(z)
            return z + self._adjoint(linalg.expand(tau, r) * g.solve(r, tau))
        b = t * self._adjoint(y - self._forward(z))  # solve for the correction: exact at tau = 0
        return z + self._solve(lambda x: x + t * self._normal(x), b, "prox_l2")

    def _pinv(self, y: torch.Tensor) -> torch.Tensor:
        if (g := self.gram()) is not None:
            return g.pinv(self._adjoint(y))
        if (g := self.cogram()) is not None:
            return self._adjoint(g.pinv(y))
        x, report = linalg.lsqr(self._forward, self._adjoint, y, tol=self.cg.tol, max_iter=self.cg.max_iter)
        self._report(report, "pinv")
        return x

    def _solve(self, normal: linalg.Map, b: torch.Tensor, what: str) -> torch.Tensor:
        x, report = linalg.cg(normal, b, tol=self.cg.tol, max_iter=self.cg.max_iter)
        self._report(report, what)
        return x

    def _report(self, report: linalg.Report, what: str) -> None:
        if not bool(report.converged.all()):
            warnings.warn(
                f"{type(self).__name__}.{what}: stopped after {report}, wanted {self.cg.tol:.1e}. "
                "Raise it with operator.with_cg(max_iter=…), or loosen tol.",
                ConvergenceWarning,
                stacklevel=4,
            )

    @final
    def with_cg(self, tol: float | None = None, max_iter: int | None = None) -> Self:
        """The same operator with other settings of its inner CG and LSQR."""
        new = copy.copy(self)
        new.cg = CGOptions(tol or self.cg.tol, max_iter or self.cg.max_iter)
        return new

    def _norm(self) -> torch.Tensor:
        g = self.gram() or self.cogram()
        if g is not None:
            return g.max(self.batch).sqrt().to(self.dtype)
        shape = (self.batch or 1, *self.in_shape)
        with torch.no_grad():
            value = linalg.power_norm(self._normal, shape, self.in_dtype, self.device)
        return value if self.batch is not None else value[0]

    # --- algebra ---

    def __add__(self, other: "LinearOperator") -> "LinearOperator":
        from pnpkit.operators.algebra import Sum

        return Sum(operators=(self, other))

    def __sub__(self, other: "LinearOperator") -> "LinearOperator":
        return self + (-1.0) * other

    def __neg__(self) -> "LinearOperator":
        return (-1.0) * self

    def __mul__(self, factor: float) -> "LinearOperator":
        from pnpkit.operators.algebra import Scaled

        return Scaled(operator=self, factor=factor)

    __rmul__ = __mul__


def _checked_shape(shape: Shape, what: str) -> Shape:
    if not shape or not all(isinstance(n, int) and n > 0 for n in shape):
        raise SpecError(f"{what} must be positive sizes without the batch, e.g. (3, 256, 256); given {tuple(shape)}")
    return tuple(shape)


def checked_tau(tau: Scalar, z: torch.Tensor) -> Scalar:
    """tau, or an error: numbers by value, tensors by shape only (their values stay on the device)."""
    if isinstance(tau, torch.Tensor):
        if tau.ndim > 1 or (tau.ndim == 1 and tau.shape[0] not in (1, z.shape[0])):
            raise ShapeError(f"tau must be a number or ({z.shape[0]},), given {tuple(tau.shape)}")
        return tau
    if not tau >= 0 or math.isinf(tau):
        raise SpecError(f"tau is a step ≥ 0 and finite, given {tau}; for tau → ∞ use pinv.")
    return tau


def keep_complexness(fn, t: torch.Tensor) -> torch.Tensor:
    """``fn`` (a cast or a move, from ``Module._apply``) without ever making complex real or real complex."""
    if t.is_complex():
        moved = fn(torch.view_as_real(t.resolve_conj()))
        return torch.view_as_complex(moved.real if moved.is_complex() else moved)
    moved = fn(t)
    return moved.real if moved.is_complex() else moved


def _perturbed(value: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    noise = torch.rand(value.shape, dtype=value.abs().dtype, generator=rng)
    return value * (0.5 + noise).to(value.dtype)
