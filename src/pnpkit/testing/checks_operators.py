"""Checks on every operator: interface, batches, derivatives, composition."""

from collections.abc import Callable

import numpy as np
import torch

from pnpkit.errors import PnpkitError, ShapeError, SpecError
from pnpkit.linalg import inner
from pnpkit.operators.base import Counter, LinearOperator, Operator
from pnpkit.operators.diagonal import Identity
from pnpkit.testing.core import Skip, check
from pnpkit.testing.measure import (
    double,
    expect,
    expect_close,
    expect_raises,
    expect_same,
    generator,
    global_rng_untouched,
    randn,
    tolerance,
    untouched,
)
from pnpkit.testing.probes import batch, image, measurement, singles, solve_rtol, taus

# --- interface ---


@check("operators", Operator)
def check_declaration(op: Operator) -> None:
    """Shapes are tuples of positive sizes; dtypes, linearity and thetas are what they claim to be."""
    for what, shape in (("in_shape", op.in_shape), ("out_shape", op.out_shape)):
        good = isinstance(shape, tuple) and all(isinstance(n, int) and n > 0 for n in shape)
        expect(good, f"{what} is {shape!r}, expected a tuple of positive sizes without the batch")
    expect(
        op.linear == isinstance(op, LinearOperator), f"linear = {op.linear}, but it is {type(op).__mro__[1].__name__}"
    )
    for name, rank in op.theta.items():
        value = op._get(name)
        expect(value.ndim in (rank, rank + 1), f"theta {name!r} has event rank {rank} but shape {tuple(value.shape)}")
    lost = set(op.linear_in) - set(op.theta)
    expect(not lost, f"linear_in names {sorted(lost)}, which are not in theta")


@check("operators", Operator)
def check_shapes(op: Operator) -> None:
    """(B, *in_shape) → (B, *out_shape) in the declared dtype and device, for one sample and for several."""
    for n in (op.batch,) if op.batch else (1, 2):
        y = op(image(op, n=n))
        wanted = torch.empty((n, *op.out_shape), dtype=op.out_dtype)
        same = (y.shape, y.dtype, y.device) == (wanted.shape, wanted.dtype, op.device)
        expect(same, f"A(x) is {tuple(y.shape)} {y.dtype} on {y.device}, expected {tuple(wanted.shape)} {wanted.dtype}")
        expect(bool(torch.isfinite(y.abs()).all()), "A(x) is not finite for a finite x")


@check("operators", Operator)
def check_wrong_input_refused(op: Operator) -> None:
    """Wrong rank, size, dtype, device or type is a ShapeError, in every public method."""
    _refuses(op, op.forward, image(op), "A(x)")
    x, v = image(op), measurement(op)
    _refuses(op, lambda t: op.vjp(t, v), x, "vjp(x, ·)")
    _refuses(op, lambda t: op.vjp(x, t), v, "vjp(·, v)")
    if isinstance(op, LinearOperator):
        _refuses(op, op.adjoint, v, "adjoint(y)")
        _refuses(op, op.normal, x, "normal(x)")
        _refuses(op, op.pinv, v, "pinv(y)")
        _refuses(op, lambda t: op.prox_l2(t, v, 1.0), x, "prox_l2(z, ·, ·)")
        _refuses(op, lambda t: op.prox_l2(x, t, 1.0), v, "prox_l2(·, y, ·)")


def _refuses(op: Operator, call: Callable, good: torch.Tensor, what: str) -> None:
    other = good.real if good.is_complex() else good.to(good.dtype.to_complex())
    wide = torch.float32 if good.dtype.to_real() == torch.float64 else torch.float64
    bad = {
        "without batch": good[0],
        "with an axis too many": good[None],
        "too long": torch.cat([good, good], -1),
        "too short in its first axis": good[:, :0],
        "with a rank that only starts right": good[..., None],
        "real instead of complex or complex instead of real": other,
        "in another precision": good.to(wide.to_complex() if good.is_complex() else wide),
        "of integers": torch.ones(good.shape, dtype=torch.int64),
        "on another device": good.to("meta"),
        "from NumPy": np.ones(good.shape),
    }
    for label, value in bad.items():
        expect_raises(ShapeError, lambda value=value: call(value), f"{what} with a tensor {label}")


@check("operators", Operator)
def check_input_not_mutated(op: Operator) -> None:
    """No method writes into what it is given."""
    x, v = image(op), measurement(op)
    with untouched("A(x)", x):
        op(x)
    with untouched("vjp(x, v)", x, v):
        op.vjp(x, v)
    with untouched("initial(y)", v):
        op.initial(v, generator(device=op.device))
    if isinstance(op, LinearOperator):
        tau = taus(op)
        with untouched("adjoint(y)", v):
            op.adjoint(v)
        with untouched("normal(x)", x):
            op.normal(x)
        with untouched("prox_l2(z, y, tau)", x, v, tau):
            op.prox_l2(x, v, tau)
        with untouched("pinv(y)", v):
            op.pinv(v)


@check("operators", Operator)
def check_output_is_new(op: Operator) -> None:
    """Results share no memory with the input or the parameters: writing into one is safe."""
    x, v = image(op), measurement(op)
    results = {"A(x)": (op(x), x)}
    if isinstance(op, LinearOperator):
        results |= {"adjoint(y)": (op.adjoint(v), v), "normal(x)": (op.normal(x), x)}
    held = {t.untyped_storage().data_ptr() for t in op.state_dict().values()}
    for what, (result, given) in results.items():
        memory = result.untyped_storage().data_ptr()
        expect(memory != given.untyped_storage().data_ptr(), f"{what} is a view of its input; return a new tensor")
        expect(memory not in held, f"{what} is a view of a parameter; return a new tensor")


@check("operators", Operator)
def check_strides_do_not_matter(op: Operator) -> None:
    """Transposed, expanded, channels-last and lazily conjugated inputs give what contiguous ones give."""
    x = image(op)
    turned = x.transpose(0, -1).contiguous().transpose(0, -1)
    views = {"transposed": turned, "flipped": x.flip(-1).flip(-1)}
    if x.ndim == 4:
        views["channels-last"] = x.to(memory_format=torch.channels_last)
    if x.is_complex():
        views["lazily conjugated"] = x.conj().resolve_conj().conj()
    wanted = op(x)
    for label, view in views.items():
        expect_close(op(view), wanted, tolerance(op.dtype), f"A of a {label} input")
    one = x[:1].expand(x.shape)
    expect_close(op(one), op(one.clone()), tolerance(op.dtype), "A of an expanded input")


@check("operators", Operator)
def check_counted(op: Operator) -> None:
    """``counted`` counts on a copy and leaves the operator as it was."""
    counter = Counter()
    twin = op.counted(counter)
    expect_close(twin(image(op)), op(image(op)), tolerance(op.dtype), "counted copy")
    expect(counter.forward == 1, f"one call was counted {counter.forward} times")


# --- batches ---


@check("operators", Operator)
def check_batch_independence(op: Operator) -> None:
    """A batch gives what its samples give alone, whatever else is in it and in whatever order."""
    x, v = image(op), measurement(op)
    if isinstance(op, LinearOperator):  # samples of very different size must not disturb each other
        x, v = _spread(x), _spread(v)
    for name, call, arrays, rtol in _batched_calls(op, x, v):
        whole = call(op, *arrays)
        for i, single in enumerate(singles(op)):
            alone = call(single, *(a[i : i + 1] for a in arrays))
            expect_close(whole[i : i + 1], alone, rtol, f"{name}: sample {i} of a batch against the same sample alone")
        if op.batch is None:
            order = torch.arange(x.shape[0] - 1, -1, -1, device=x.device)
            turned = call(op, *(a[order] for a in arrays))
            expect_close(turned, whole[order], rtol, f"{name}: batch in reverse order")


def _spread(t: torch.Tensor) -> torch.Tensor:
    scale = torch.logspace(-4, 4, t.shape[0], dtype=t.real.dtype if t.is_complex() else t.dtype, device=t.device)
    return t * scale.reshape(-1, *[1] * (t.ndim - 1))


def _batched_calls(op: Operator, x: torch.Tensor, v: torch.Tensor):
    rtol = tolerance(op.dtype)
    yield "A(x)", lambda o, a: o(a), (x,), rtol
    yield "vjp", lambda o, a, b: o.vjp(a, b), (x, v), rtol
    if isinstance(op, LinearOperator):
        yield "adjoint", lambda o, b: o.adjoint(b), (v,), rtol
        yield "normal", lambda o, a: o.normal(a), (x,), rtol
        yield "prox_l2", lambda o, a, b, t: o.prox_l2(a, b, t), (x, v, taus(op)), solve_rtol(op)


# --- derivatives ---


@check("operators", Operator)
def check_vjp_is_autograd(op: Operator) -> None:
    """``vjp`` is the gradient of Re⟨v, A(x)⟩ by autograd, also through ``torch.func``."""
    x, v = image(op).requires_grad_(), measurement(op)
    y = op(x)
    expect(y.requires_grad, "A(x) does not carry a gradient with respect to x: something is detached")
    (wanted,) = torch.autograd.grad(inner(y, v).sum(), x)
    rtol = 3 * tolerance(op.dtype)
    expect_close(op.vjp(x.detach(), v), wanted, rtol, "vjp against autograd")
    functional = torch.func.vjp(op.forward, x.detach())[1](v)[0]
    expect_close(functional, wanted, rtol, "torch.func.vjp of A against autograd")


@check("operators", Operator)
def check_vjp_finite_differences(op: Operator) -> None:
    """⟨vjp(x, v), d⟩ is the derivative of ⟨v, A(x + h d)⟩ in h, in float64 (central differences)."""
    wide = double(op)
    x, v = image(wide), measurement(wide)
    d = image(wide, seed=11)
    h = 1e-5
    difference = (wide(x + h * d) - wide(x - h * d)) / (2 * h)
    expect_slopes(inner(wide.vjp(x, v), d), inner(difference, v), difference, v, "vjp")


def expect_slopes(given: torch.Tensor, wanted: torch.Tensor, a: torch.Tensor, b: torch.Tensor, what: str) -> None:
    """Two (B,) inner products of a and b agree, relative to the size of what is multiplied."""
    size = (inner(a, a) * inner(b, b)).sqrt().clamp_min(torch.finfo(a.abs().dtype).tiny)
    error = float(((given - wanted).abs() / size).max())
    # Cancellation in A(x + hd) − A(x − hd) leaves about eps/h, 1e-11; truncation h² |A'''|.
    expect(error <= 1e-6, f"{what}: slopes differ from finite differences by {error:.1e}, expected at most 1e-6")


# --- start ---


@check("operators", Operator)
def check_initial(op: Operator) -> None:
    """A starting image of the right shape from a generator; for linear operators at the scale of the data."""
    y = op(image(op))
    with global_rng_untouched("initial(y, rng)"):
        x = op.initial(y, generator(5, op.device))
    expect_same(op.initial(y, generator(5, op.device)), x, "initial from equal generators")
    wanted = (batch(op), *op.in_shape)
    expect(
        x.shape == wanted and x.dtype == op.in_dtype,
        f"initial is {tuple(x.shape)} {x.dtype}, expected {wanted} {op.in_dtype}",
    )
    if not isinstance(op, LinearOperator):
        return
    left, size = inner(op(x) - y, op(x) - y), inner(y, y)
    expect(bool((left <= 1.0001 * size).all()), "A(initial(y)) is further from y than zero is: wrong scale")
    for c in (1e-6, 1e6):
        expect_close(op.initial(c * y) / c, x, 10 * tolerance(op.dtype), f"initial({c:g}·y)/{c:g}")
    zero = op.initial(0 * y)
    expect(bool((zero == 0).all()), "initial(0) is not zero")


# --- composition ---


@check("operators", Operator)
def check_composition_with_identity(op: Operator) -> None:
    """A @ I and I @ A are A: values, thetas, prox, pseudo-inverse and norm; structure is kept."""
    inside = Identity(shape=op.in_shape, complex=op.in_dtype.is_complex).to(op.device, op.dtype)
    outside = Identity(shape=op.out_shape, complex=op.out_dtype.is_complex).to(op.device, op.dtype)
    x, v, rtol = image(op), measurement(op), tolerance(op.dtype)
    for label, both in (("A @ I", op @ inside), ("I @ A", outside @ op)):
        spaces = (both.in_shape, both.out_shape, both.in_dtype, both.out_dtype)
        expect(spaces == (op.in_shape, op.out_shape, op.in_dtype, op.out_dtype), f"{label} maps between other spaces")
        expect(len(both.theta) == len(op.theta), f"{label} has thetas {list(both.theta)}, A has {list(op.theta)}")
        expect_close(both(x), op(x), rtol, label)
        expect_close(both.vjp(x, v), op.vjp(x, v), rtol, f"vjp of {label}")
        if isinstance(op, LinearOperator):
            expect(isinstance(both, LinearOperator), f"{label} is not linear, though A is")
            expect_equal_operators(both, op, label)


def expect_equal_operators(given: LinearOperator, wanted: LinearOperator, label: str, structure: bool = True) -> None:
    """Same adjoint, normal, prox, pseudo-inverse and norm, and (``structure``) no closed form lost."""
    x, v, tau, rtol = image(wanted), measurement(wanted), taus(wanted), tolerance(wanted.dtype)
    y = wanted(x)
    expect_close(given.adjoint(v), wanted.adjoint(v), rtol, f"adjoint of {label}")
    expect_close(given.normal(x), wanted.normal(x), 3 * rtol, f"normal of {label}")
    expect_close(given.prox_l2(x, v, tau), wanted.prox_l2(x, v, tau), 3 * solve_rtol(wanted), f"prox_l2 of {label}")
    expect_close(wanted(given.pinv(y)), wanted(wanted.pinv(y)), 3e-3, f"A·pinv of {label}")
    sizes = [torch.as_tensor(o.norm()) for o in (given, wanted)]
    expect_close(sizes[0], sizes[1], 5e-3, f"norm of {label}")
    for name in ("gram", "cogram") if structure else ():
        lost = getattr(wanted, name)() is not None and getattr(given, name)() is None
        expect(not lost, f"{label} has lost the closed form of A: {name}() is None")


# --- rows and parameters given wrongly ---


@check("operators", Operator)
def check_rows(op: Operator) -> None:
    """``rows(idx)(x)`` is A(x) at those measurements, in their order, with the adjoint that belongs to it."""
    n = op.out_shape[op.row_axis] if -op.row_axis <= len(op.out_shape) else 1
    if n < 2:
        raise Skip(f"only {n} measurement(s) along its row axis")
    idx = torch.tensor([n - 1, 0] if n < 4 else [n - 1, 0, n // 2], device=op.device)
    part, x = op.rows(idx), image(op)
    expect_close(part(x), op(x).index_select(op.row_axis, idx), tolerance(op.dtype), "rows(idx)(x)")
    expect(part.linear == op.linear, "rows(idx) changed linearity")
    v = measurement(part)
    full = torch.zeros((v.shape[0], *op.out_shape), dtype=v.dtype, device=v.device).index_copy(op.row_axis, idx, v)
    expect_close(part.vjp(x, v), op.vjp(x, full), tolerance(op.dtype), "vjp of rows(idx)")
    outside = torch.tensor([n], device=op.device)
    expect_raises((PnpkitError, IndexError), lambda: op.rows(outside), f"rows([{n}]) of {n} measurements")


@check("operators", Operator)
def check_wrong_theta_refused(op: Operator) -> None:
    """``at`` refuses unknown names, other event shapes, other dtypes and a batch that does not fit."""
    value = randn((2,), op.dtype)
    expect_raises(SpecError, lambda: op.at(no_such_theta=value), "at(no_such_theta=…)")
    for name, rank in op.theta.items():
        old = op._get(name)
        event = old[0] if old.ndim == rank + 1 else old
        wrong = {"with two leading axes": event[None, None], "of another precision": event.to(_other(event.dtype))}
        if rank:
            wrong["without its first axis"] = event[0]
            wrong["with a longer last axis"] = torch.cat([event, event], -1)
        for label, bad in wrong.items():
            expect_raises(ShapeError, lambda bad=bad, name=name: op.at(**{name: bad}), f"at({name}= a tensor {label})")
        three = op.at(**{name: torch.stack([event] * 3)}) if op.batch is None else None
        if three is not None:
            expect_raises(ShapeError, lambda three=three: three(image(op, n=2)), f"2 images with {name} for 3 samples")


def _other(dtype: torch.dtype) -> torch.dtype:
    real = torch.float32 if dtype.to_real() == torch.float64 else torch.float64
    return real.to_complex() if dtype.is_complex else real
