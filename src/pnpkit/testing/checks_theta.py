"""Checks on operator parameters: ``at``, one value per sample, gradients, ``in_theta``, state dicts."""

from collections.abc import Callable

import torch

from pnpkit import spec
from pnpkit.linalg import inner
from pnpkit.operators.base import LinearOperator, Operator
from pnpkit.testing.checks_operators import expect_slopes
from pnpkit.testing.core import Skip, check
from pnpkit.testing.measure import attributes, differences, double, expect, expect_close, generator, rebuilt, tolerance
from pnpkit.testing.probes import batch, exact, exercise, expect_same_results, image, measurement, solve_rtol, taus

Thetas = dict[str, torch.Tensor]


def _thetas(op: Operator, seed: int = 50) -> Thetas:
    """Other values of every parameter; Skip where there is none."""
    if not op.theta:
        raise Skip("has no theta")
    return op.example_theta(generator(seed))


def _per_sample(op: Operator, n: int) -> tuple[Operator, list[Operator]]:
    """The operator with n different values of every parameter, and the n operators it stands for."""
    if op.batch is not None:
        raise Skip("its parameters are per sample already")
    values = [_thetas(op, 50 + i) for i in range(n)]
    exercise(op)  # whatever it caches is there to be carried along by mistake
    stacked = {name: torch.stack([v[name] for v in values]) for name in values[0]}
    return op.at(**stacked), [op.at(**v) for v in values]


@check("operators", Operator)
def check_at(op: Operator) -> None:
    """``at`` gives the operator that would have been built so, and changes nothing on the old one.

    Caches are filled before, on both: none may be carried over or shared.
    """
    values = _thetas(op)
    op = rebuilt(op)
    before, old, name = exercise(op), attributes(op), spec.digest(op)
    new = op.at(**values)
    given = exercise(new)
    wanted = exercise(rebuilt(new))
    expect_same_results(given, wanted, 30 * tolerance(op.dtype), "at(theta) against the operator built with it")
    expect(spec.digest(new) != name, "at(theta) has the spec of the old operator")
    changed = differences(old, attributes(op))
    expect(not changed and spec.digest(op) == name, f"at(theta) changed the old operator: {', '.join(changed)}")
    expect_same_results(exercise(op), before, 30 * tolerance(op.dtype), "the old operator after at(theta)")
    for path, value in values.items():
        expect(torch.equal(new._get(path), value), f"at({path}=…) does not hold the value it was given")


@check("operators", Operator)
def check_at_reaches_the_output(op: Operator) -> None:
    """Every theta does something: another value of it alone gives another A(x)."""
    x = image(op)
    for name, value in _thetas(op).items():
        error = float((op.at(**{name: value})(x) - op(x)).abs().max())
        expect(error > 0, f"A(x) does not depend on theta {name!r}")


@check("operators", Operator)
def check_per_sample_theta(op: Operator) -> None:
    """One theta per sample gives what a loop gives: values, adjoint, prox, norm and structure.

    Batches as large as the image's own axes are tried: a parameter that lands on channels or columns
    instead of on samples would fit there without an error.
    """
    for n in sorted({2, 3, *(s for s in (op.in_shape[0], op.in_shape[-1]) if 1 < s <= 8)}):
        many, each = _per_sample(op, n)
        expect(many.batch == n, f"batch is {many.batch} with parameters for {n} samples")
        x, v = image(op, n=n), measurement(op, n=n)
        for name, call, arrays, rtol in _sample_calls(op, many, x, v):
            whole = call(many, *arrays)
            loop = torch.cat([call(o, *(a[i : i + 1] for a in arrays)) for i, o in enumerate(each)])
            expect_close(whole, loop, rtol, f"{name} with {n} thetas against a loop over the samples")


def _sample_calls(op: Operator, many: Operator, x: torch.Tensor, v: torch.Tensor):
    rtol = 3 * tolerance(op.dtype)
    yield "A(x)", lambda o, a: o(a), (x,), rtol
    yield "vjp", lambda o, a, b: o.vjp(a, b), (x, v), rtol
    if isinstance(many, LinearOperator):
        yield "adjoint", lambda o, b: o.adjoint(b), (v,), rtol
        yield "normal", lambda o, a: o.normal(a), (x,), 3 * rtol
        solve = max(solve_rtol(many), solve_rtol(op))  # type: ignore[arg-type]
        yield "prox_l2", lambda o, a, b, t: o.prox_l2(a, b, t), (x, v, taus(many)), solve
        yield "A·pinv·A", lambda o, a: o(o.pinv(o(a))), (x,), 3e-3
        yield "norm", lambda o, a: torch.as_tensor(o.norm()).reshape(-1), (x,), 5e-3


@check("operators", Operator)
def check_select_and_repeat(op: Operator) -> None:
    """Parameters per sample follow a slice of the batch and its repetition."""
    many, _ = _per_sample(op, 3)
    x, rtol = image(op, n=3), tolerance(op.dtype)
    expect_close(many.select(slice(1, 3))(x[1:]), many(x)[1:], 3 * rtol, "select(1:3)")
    twice = many.repeat(2)(x.repeat_interleave(2, 0))
    expect_close(twice, many(x).repeat_interleave(2, 0), 3 * rtol, "repeat(2)")
    expect_close(op.repeat(2)(x), op(x), rtol, "repeat(2) of an operator with one theta for all")


@check("operators", Operator)
def check_theta_gradients(op: Operator) -> None:
    """Gradients in every theta, of A(x), A^H y, A^H A x and prox_l2, against finite differences in float64."""
    wide = exact(op) if isinstance(op, LinearOperator) else double(op)
    for name, value in _thetas(wide).items():
        direction = _direction(value)
        for label, function in _theta_functions(wide):
            _expect_theta_gradient(
                lambda t, f=function, n=name: f(wide.at(**{n: t})), value, direction, f"{label} in {name!r}"
            )


def _direction(value: torch.Tensor) -> torch.Tensor:
    return value * torch.rand(value.shape, dtype=torch.float64, generator=generator(60)).to(value.device) - 0.3 * value


def _theta_functions(op: Operator):
    x, v = image(op), measurement(op)
    yield "A(x)", lambda o: o(x)
    if isinstance(op, LinearOperator):
        tau = taus(op)
        yield "adjoint(y)", lambda o: o.adjoint(v)
        yield "normal(x)", lambda o: o.normal(x)
        yield "prox_l2(z, y, tau)", lambda o: o.prox_l2(x, v, tau)


def _expect_theta_gradient(function: Callable, value: torch.Tensor, direction: torch.Tensor, what: str) -> None:
    theta = value.clone().requires_grad_()
    out = function(theta)
    expect(out.requires_grad, f"{what}: no gradient reaches theta; it is detached or cached")
    v = torch.sgn(out.detach()) + 0.5 * out.detach() / out.detach().abs().max().clamp_min(1e-30)
    (gradient,) = torch.autograd.grad(inner(out, v).sum(), theta)
    h = 1e-5
    with torch.no_grad():
        difference = (function(value + h * direction) - function(value - h * direction)) / (2 * h)
    slope = inner(gradient[None], direction[None])
    expect_slopes(slope, inner(difference, v).sum()[None], difference[None], v[None], f"{what}: gradient")


@check("operators", Operator)
def check_in_theta(op: Operator) -> None:
    """``in_theta(name, x)(theta)`` is ``at(name=theta)(x)``, per sample; linear exactly where declared."""
    if not op.theta:
        raise Skip("has no theta")
    if any("." in name for name in op.theta):
        raise Skip("its thetas are its parts', which are checked by themselves")
    x = image(op)
    for name in op.theta:
        inside, value = op.in_theta(name, x), _event_values(op, name)
        expect_close(inside(value), op.at(**{name: value})(x), tolerance(op.dtype), f"in_theta({name!r}, x)")
        linear = name in op.linear_in
        expect(inside.linear == linear, f"in_theta({name!r}) is linear: {inside.linear}, declared {linear}")
        if isinstance(inside, LinearOperator):
            a, b = image(inside, seed=70, n=batch(op)), image(inside, seed=71, n=batch(op))
            together = inside(0.3 * a - 0.8 * b)
            expect_close(together, 0.3 * inside(a) - 0.8 * inside(b), 3 * tolerance(op.dtype), f"linearity in {name!r}")


def _event_values(op: Operator, name: str) -> torch.Tensor:
    if op.batch is not None:
        return op.example_theta(generator(52))[name]
    return torch.stack([op.example_theta(generator(52 + i))[name] for i in range(batch(op))])


@check("operators", Operator)
def check_load_state_dict(op: Operator) -> None:
    """An operator with other parameters that loads this state dict becomes this operator, caches and all."""
    other = rebuilt(op.at(**_thetas(op)))
    exercise(other)  # fill its caches
    other.load_state_dict(op.state_dict())
    expect_same_results(exercise(other), exercise(op), 30 * tolerance(op.dtype), "after load_state_dict")


@check("operators", Operator)
def check_copies_move_alone(op: Operator) -> None:
    """Moving what ``at`` returned to another precision leaves the operator it came from where it was."""
    values = _thetas(op)
    op = rebuilt(op)
    before = exercise(op)
    op.at(**values).to(torch.float64)
    expect_same_results(exercise(op), before, 30 * tolerance(op.dtype), "after at(theta).to(float64)")
