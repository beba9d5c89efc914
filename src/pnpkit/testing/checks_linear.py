"""Checks on linear operators: linearity, adjoint, closed forms, prox, pseudo-inverse, norm, algebra."""

import torch

from pnpkit.errors import ShapeError, SpecError
from pnpkit.linalg import expand, inner, norm
from pnpkit.operators.algebra import Stack
from pnpkit.operators.base import LinearOperator
from pnpkit.operators.gram import Gram
from pnpkit.testing.checks_operators import expect_equal_operators
from pnpkit.testing.core import check
from pnpkit.testing.measure import (
    DOUBLE,
    double,
    expect,
    expect_close,
    expect_raises,
    expect_same,
    randn,
    relative_error,
    tolerance,
)
from pnpkit.testing.probes import (
    as_real,
    batch,
    exact,
    image,
    largest_singular_value,
    matrix,
    measurement,
    singles,
    solve_rtol,
    taus,
)

# --- the map ---


@check("operators", LinearOperator)
def check_linearity(op: LinearOperator) -> None:
    """A(a x + b z) = a A(x) + b A(z) with complex scalars between complex spaces; in float64 to 1e-10.

    The float64 run also finds a hidden cast to float32; the scales find thresholds and clamps.
    """
    for o in (op, double(op)):
        x, z = image(o), image(o, seed=6)
        complex_ = o.in_dtype.is_complex and o.out_dtype.is_complex
        a, b = (0.7 - 1.3j, -0.4 + 0.2j) if complex_ else (0.7, -1.3)
        expect_close(o(a * x + b * z), a * o(x) + b * o(z), 3 * tolerance(o.dtype), f"A(ax + bz) in {o.dtype}")
        for c in (1e-6, 1e6):
            expect_close(o(c * x) / c, o(x), tolerance(o.dtype), f"A({c:g}·x)/{c:g} in {o.dtype}")
        expect(bool((o(0 * x) == 0).all()), "A(0) is not zero")


@check("operators", LinearOperator)
def check_adjoint(op: LinearOperator) -> None:
    """⟨A x, y⟩ = ⟨x, A^H y⟩ for zero-mean random x and y, and for y = A x, where nothing cancels.

    Between complex spaces the imaginary parts are compared too. Relative to ‖A x‖‖y‖.
    """
    for o in (op, double(op)):
        for seed in range(3):
            x = image(o, seed=20 + seed)
            y = measurement(o, seed=30 + seed) if seed else o(x)
            _expect_adjoint(o, x, y)


def _expect_adjoint(o: LinearOperator, x: torch.Tensor, y: torch.Tensor) -> None:
    ax, ahy = o(x), o.adjoint(y)
    same = (ahy.shape, ahy.dtype) == (x.shape, x.dtype)
    expect(same, f"A^H y is {tuple(ahy.shape)} {ahy.dtype}, expected {tuple(x.shape)} {x.dtype}")
    size = (norm(ax) * norm(y)).clamp_min(torch.finfo(o.dtype).tiny)
    gaps = {"": inner(ax, y) - inner(x, ahy)}
    if o.in_dtype.is_complex and o.out_dtype.is_complex:
        gaps["imaginary part of "] = inner(1j * ax, y) - inner(1j * x, ahy)
    for part, gap in gaps.items():
        error = float((gap.abs() / size).max())
        rtol = tolerance(o.dtype)
        expect(
            error <= rtol,
            f"{part}⟨Ax, y⟩ − ⟨x, A^H y⟩ is {error:.1e} of ‖Ax‖‖y‖ in {o.dtype}, expected at most {rtol:.0e}",
        )


@check("operators", LinearOperator)
def check_adjoint_is_differentiable(op: LinearOperator) -> None:
    """Gradients through A^H and through A^H A are A and A^H A: needed by unrolled training and DPS."""
    x, v = image(op), measurement(op).requires_grad_()
    out = op.adjoint(v)
    expect(out.requires_grad, "A^H y does not carry a gradient with respect to y: something is detached")
    (g,) = torch.autograd.grad(inner(out, x).sum(), v)
    expect_close(g, op(x), 3 * tolerance(op.dtype), "gradient through the adjoint")
    z = image(op, seed=8).requires_grad_()
    (g,) = torch.autograd.grad(inner(op.normal(z), x).sum(), z)
    expect_close(g, op.adjoint(op(x)), 10 * tolerance(op.dtype), "gradient through the normal operator")


@check("operators", LinearOperator)
def check_normal(op: LinearOperator) -> None:
    """``normal`` is A^H A."""
    for o, rtol in ((op, 10 * tolerance(op.dtype)), (double(op), 10 * DOUBLE)):
        x = image(o)
        expect_close(o.normal(x), o.adjoint(o(x)), rtol, f"normal(x) against A^H A x in {o.dtype}")


# --- structure ---


@check("operators", LinearOperator)
def check_structure_claims(op: LinearOperator) -> None:
    """``diagonal``, ``gram`` and ``cogram``, where given, are A, A^H A and A A^H."""
    o = double(op)
    x, y = image(o), measurement(o)
    claims = {
        "diagonal() is A": (o.diagonal(), x, lambda: o(x)),
        "gram() is A^H A": (o.gram(), x, lambda: o.adjoint(o(x))),
        "cogram() is A A^H": (o.cogram(), y, lambda: o(o.adjoint(y))),
    }
    for what, (claim, given, wanted) in claims.items():
        if claim is not None:
            _expect_gram_shape(claim, given, what)
            expect_close(claim.apply(given), wanted(), 10 * DOUBLE, what)


def _expect_gram_shape(claim: Gram, acts_on: torch.Tensor, what: str) -> None:
    v = claim.values
    if claim.basis != "scalar":
        fits = v.ndim == acts_on.ndim and v.shape[0] in (1, acts_on.shape[0])
        expect(
            fits, f"{what}: values are {tuple(v.shape)}, expected (1 or B, …) with the rank of {tuple(acts_on.shape)}"
        )


@check("operators", LinearOperator)
def check_pull_and_push(op: LinearOperator) -> None:
    """A^H G A and A G A^H, where claimed diagonal, are so for scalar, pixel and Fourier G."""
    o = double(op)
    x, y = image(o), measurement(o)
    for g in _grams(o, o.out_shape):
        if (pulled := o._pull(g)) is not None:
            expect_close(pulled.apply(x), o.adjoint(g.apply(o(x))), 10 * DOUBLE, f"_pull of a {g.basis} G")
    for g in _grams(o, o.in_shape):
        if (pushed := o._push(g)) is not None:
            expect_close(pushed.apply(y), o(g.apply(o.adjoint(y))), 10 * DOUBLE, f"_push of a {g.basis} G")


def _grams(o: LinearOperator, event: tuple[int, ...]):
    """Diagonal positive G on arrays of this shape, one for all and one per sample."""
    yield Gram.scalar(torch.tensor(0.7, dtype=o.dtype, device=o.device))
    for n in (1, batch(o)):
        yield Gram("pixel", 0.2 + randn((n, *event), o.dtype, 40, o.device).square())
        for rank, basis in ((2, "fourier2"), (3, "fourier3")):
            if len(event) > rank:
                # The power spectrum of a real array: real, ≥ 0, symmetric, so it acts on real images too.
                real = randn((n, *event), o.dtype, 41, o.device)
                yield Gram(basis, torch.fft.fftn(real, dim=tuple(range(-rank, 0))).abs().square())  # type: ignore[arg-type]


# --- solves ---


@check("operators", LinearOperator)
def check_prox_optimality(op: LinearOperator) -> None:
    """x = prox_l2(z, y, tau) solves x − z + tau A^H (A x − y) = 0, for weak to strong tau, in float64.

    Relative to the same gradient at z: a prox that ignores y, z, tau or its square root fails by far.
    """
    o = exact(op)
    z, y = image(o, seed=4), measurement(o)
    for factor in (1e-3, 1.0, 50.0):
        tau = taus(o) * factor
        x = o.prox_l2(z, y, tau)
        start = expand(tau, z) * o.adjoint(o(z) - y)
        left = x - z + expand(tau, z) * o.adjoint(o(x) - y)
        error = relative_error(start - left, start)
        expect(error <= 1e-6, f"prox_l2 at tau×{factor:g}: gradient is {error:.1e} of its start, expected at most 1e-6")


@check("operators", LinearOperator)
def check_prox_default_accuracy(op: LinearOperator) -> None:
    """At the operator's own precision and CG settings prox_l2 is near the exact one."""
    o = exact(op)
    z, y = image(op, seed=4), measurement(op)
    wanted = o.prox_l2(z.to(o.in_dtype), y.to(o.out_dtype), taus(o)).to(op.in_dtype)
    expect_close(op.prox_l2(z, y, taus(op)), wanted, max(1e-3, solve_rtol(op)), "prox_l2 against the exact one")


@check("operators", LinearOperator)
def check_prox_step_forms(op: LinearOperator) -> None:
    """A number, a 0-d tensor and (B,) are the same step; each sample gets its own; 0 gives z."""
    z, y, tau, rtol = image(op, seed=4), measurement(op), taus(op), 3 * solve_rtol(op)
    whole = op.prox_l2(z, y, tau)
    for i, single in enumerate(singles(op)):
        zi, yi = z[i : i + 1], y[i : i + 1]
        for label, t in (("number", float(tau[i])), ("0-d tensor", tau[i]), ("(1,) tensor", tau[i : i + 1])):
            expect_close(
                single.prox_l2(zi, yi, t), whole[i : i + 1], rtol, f"prox_l2 with tau as a {label}, sample {i}"
            )
    expect_close(op.prox_l2(z, y, 0.0), z, tolerance(op.dtype), "prox_l2 at tau = 0")
    expect_raises(SpecError, lambda: op.prox_l2(z, y, -1.0), "prox_l2 at tau = −1")
    expect_raises(SpecError, lambda: op.prox_l2(z, y, float("inf")), "prox_l2 at tau = ∞")
    expect_raises(SpecError, lambda: op.prox_l2(z, y, float("nan")), "prox_l2 at tau = NaN")
    long = torch.ones(z.shape[0] + 1, dtype=op.dtype, device=op.device)
    expect_raises(ShapeError, lambda: op.prox_l2(z, y, long), "prox_l2 with one tau too many")


@check("operators", LinearOperator)
def check_prox_is_differentiable(op: LinearOperator) -> None:
    """The gradient of ⟨prox_l2(z, y, tau), v⟩ in z is prox_l2(v, 0, tau), and in y tau·A of that."""
    o = exact(op)
    z, y, v, tau = image(o, seed=4).requires_grad_(), measurement(o).requires_grad_(), image(o, seed=8), taus(o)
    out = o.prox_l2(z, y, tau)
    expect(out.requires_grad, "prox_l2 does not carry gradients: something is detached")
    gz, gy = torch.autograd.grad(inner(out, v).sum(), (z, y))
    with torch.no_grad():
        wanted = o.prox_l2(v, torch.zeros_like(y), tau)
        expect_close(gz, wanted, 1e-4, "gradient of prox_l2 in z")
        expect_close(gy, expand(tau, y) * o(wanted), 1e-4, "gradient of prox_l2 in y")


@check("operators", LinearOperator)
def check_pinv(op: LinearOperator) -> None:
    """The four Penrose conditions, on vectors, in float64; no singular value of the example may hide at 1e-6."""
    o = exact(op)
    x, y = image(o), measurement(o)
    ax = o(x)
    back = o.pinv(ax)
    expect_close(o(back), ax, 1e-5, "A pinv(A x) against A x")
    cross = (inner(x - back, back).abs() / (norm(x) * norm(back)).clamp_min(1e-30)).max()
    expect(
        float(cross) <= 1e-4, f"x − pinv(A x) has a cosine of {float(cross):.1e} with pinv(A x): not the minimum norm"
    )
    least = o.pinv(y)
    left = norm(o.adjoint(o(least) - y)) / (torch.as_tensor(o.norm()) * norm(y)).clamp_min(1e-300)
    expect(
        float(left.max()) <= 1e-5,
        f"pinv(y) is not a least-squares solution: gradient {float(left.max()):.1e}, relative",
    )
    expect_close(o.pinv(o(least)), least, 1e-3, "pinv(A pinv(y)) against pinv(y)")
    expect(bool((o.pinv(0 * y) == 0).all()), "pinv(0) is not zero")


@check("operators", LinearOperator)
def check_norm(op: LinearOperator) -> None:
    """``norm`` is the largest singular value: at most 0.5% below it and 2% above, per sample."""
    given = torch.as_tensor(op.norm())
    wanted_shape = () if op.batch is None else (op.batch,)
    expect(given.shape == wanted_shape, f"norm() has shape {tuple(given.shape)}, expected {wanted_shape}")
    expect(given.dtype == op.dtype, f"norm() is {given.dtype}, expected {op.dtype}")
    wide = double(op)
    parts = [wide] if op.batch is None else singles(wide)
    for value, part in zip(given.reshape(-1).tolist(), parts, strict=True):
        true = largest_singular_value(part)
        ratio = value / true if true > 0 else float(value == 0)
        expect(0.995 <= ratio <= 1.02, f"norm() is {value:.6g}, the largest singular value {true:.6g}")


@check("operators", LinearOperator)
def check_dense_adjoint(op: LinearOperator) -> None:
    """Entry by entry: the matrix of A^H is the transpose of the matrix of A (where that is small)."""
    o = double(op)
    o = o.select(slice(0, 1)) if o.batch else o
    forward, backward = matrix(o), matrix(o.H)
    if forward is not None and backward is not None:
        gap = float((forward - backward.T).abs().max() / forward.abs().max().clamp_min(1e-300))
        expect(gap <= DOUBLE, f"matrix of A^H differs from that of A transposed by {gap:.1e} of its largest entry")


# --- scale ---


@check("operators", LinearOperator)
def check_data_scale(op: LinearOperator) -> None:
    """prox_l2 and pinv of c·data are c times those of the data, c from 1e-8 to 1e8: relative tolerances."""
    z, y, tau = image(op, seed=4), op(image(op)), taus(op)
    prox, back = op.prox_l2(z, y, tau), op(op.pinv(y))
    for c in (1e-8, 1e8):
        expect_close(op.prox_l2(c * z, c * y, tau) / c, prox, solve_rtol(op), f"prox_l2({c:g}·z, {c:g}·y)/{c:g}")
        expect_close(op(op.pinv(c * y)) / c, back, 1e-3, f"A·pinv({c:g}·y)/{c:g}")


@check("operators", LinearOperator)
def check_operator_scale(op: LinearOperator) -> None:
    """c·A with data c·y and step tau/c²: the same prox and pseudo-inverse, the norm |c| times."""
    z, y, tau = image(op, seed=4), op(image(op)), taus(op)
    for c in (1e-4, -300.0):
        scaled = c * op
        expect_close(scaled(z), c * op(z), tolerance(op.dtype), f"({c:g}·A)(x)")
        expect_close(torch.as_tensor(scaled.norm()), abs(c) * torch.as_tensor(op.norm()), 5e-3, f"norm of {c:g}·A")
        same = scaled.prox_l2(z, c * y, tau / c**2)
        expect_close(same, op.prox_l2(z, y, tau), 3 * solve_rtol(op), f"prox_l2 of {c:g}·A")
        expect_close(op(scaled.pinv(c * y)), op(op.pinv(y)), 3e-3, f"pinv of {c:g}·A")


# --- algebra ---


@check("operators", LinearOperator)
def check_adjoint_operator(op: LinearOperator) -> None:
    """A.H is the adjoint, A.H.H is A, and (A.H @ A) is the normal operator."""
    x, v = image(op), measurement(op)
    expect_close(op.H(v), op.adjoint(v), tolerance(op.dtype), "A.H(y)")
    expect_close(op.H.adjoint(x), op(x), tolerance(op.dtype), "A.H.adjoint(x)")
    expect_equal_operators(op.H.H, op, "A.H.H")
    expect_close((op.H @ op)(x), op.adjoint(op(x)), tolerance(op.dtype), "(A.H @ A)(x)")
    expect_close(torch.as_tensor(op.H.norm()), torch.as_tensor(op.norm()), 5e-3, "norm of A.H")


@check("operators", LinearOperator)
def check_sum_and_difference(op: LinearOperator) -> None:
    """A + A is 2A in every respect, and A − A is zero."""
    expect_equal_operators(op + op, 2.0 * op, "A + A", structure=op.diagonal() is not None)
    x = image(op)
    expect_close((op + op)(x), 2 * op(x), tolerance(op.dtype), "(A + A)(x)")
    expect(bool(((op - op)(x) == 0).all()), "(A − A)(x) is not zero")


@check("operators", LinearOperator)
def check_stack(op: LinearOperator) -> None:
    """Stack((A, A)): parts split and join; its prox at tau is A's at 2 tau; its norm is √2 times."""
    both, x = Stack(operators=(op, op)), image(op)
    parts = both.split(both(x))
    for i, part in enumerate(parts):
        expect_close(part, op(x), tolerance(op.dtype), f"part {i} of Stack((A, A))(x)")
    expect_same(both.join(parts), both(x), "join(split(y))")
    one, two = measurement(op), measurement(op, seed=3)
    flat = both.join((one, two))
    expect_close(
        both.adjoint(flat), op.adjoint(one) + op.adjoint(two), 3 * tolerance(op.dtype), "adjoint of Stack((A, A))"
    )
    prox = both.prox_l2(x, flat, taus(op))
    expect_close(prox, op.prox_l2(x, (one + two) / 2, 2 * taus(op)), 3 * solve_rtol(op), "prox_l2 of Stack((A, A))")
    expect_close(torch.as_tensor(both.norm()), 2**0.5 * torch.as_tensor(op.norm()), 5e-3, "norm of Stack((A, A))")
    lost = op.gram() is not None and both.gram() is None
    expect(not lost, "Stack((A, A)) has lost the closed form of A: gram() is None")


@check("operators", LinearOperator)
def check_zero_data(op: LinearOperator) -> None:
    """Zero in, zero out, and no NaN: prox_l2(0, 0, tau) and A^H 0."""
    z, y = 0 * image(op), 0 * measurement(op)
    for what, value in (("prox_l2(0, 0, tau)", op.prox_l2(z, y, taus(op))), ("A^H 0", op.adjoint(y))):
        expect(bool((as_real(value) == 0).all()), f"{what} is not zero")
