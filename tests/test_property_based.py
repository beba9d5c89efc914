"""Hypothesis: specs, shapes, algebra and linear solves over values nobody would have picked."""

import json
import math
import os

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pnpkit import linalg, registry, spec
from pnpkit.errors import PnpkitError, ShapeError, SpecError
from pnpkit.likelihoods import Gaussian, Poisson, SplitLikelihood
from pnpkit.operators.algebra import Compose, Rows, Scaled, Stack, Sum
from pnpkit.operators.diagonal import Diagonal, Identity
from pnpkit.operators.gram import Gram
from pnpkit.operators.inpainting import Inpainting
from pnpkit.problem import Problem

FULL = bool(os.environ.get("PNPKIT_FULL"))  # set by `make test-full`: fifty times as many examples, new ones each time
settings.register_profile(
    "pnpkit",
    max_examples=3000 if FULL else 60,
    deadline=None,
    derandomize=not FULL,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("pnpkit")

sizes = st.integers(1, 5)
shapes = st.tuples(sizes, sizes, sizes)
seeds = st.integers(0, 2**31)
factors = st.floats(-1e3, 1e3).filter(lambda c: abs(c) > 1e-3)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)


def tensor(shape: tuple[int, ...], seed: int, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@st.composite
def operators(draw, shape: tuple[int, int, int], depth: int = 2):
    """Any tree of algebra over diagonal operators on images of one shape, in float64."""
    seed = draw(seeds)
    leaves = {
        "identity": lambda: Identity(shape=shape).to(torch.float64),
        "diagonal": lambda: Diagonal(weight=tensor(shape, seed), shape=shape),
        "inpainting": lambda: Inpainting(mask=(tensor(shape, seed) > -1).double() + _corner(shape)),
    }
    if depth == 0:
        return leaves[draw(st.sampled_from(sorted(leaves)))]()
    kind = draw(st.sampled_from([*sorted(leaves), "compose", "sum", "scaled", "adjoint"]))
    if kind in leaves:
        return leaves[kind]()
    inner = operators(shape, depth - 1)
    if kind == "scaled":
        return Scaled(operator=draw(inner), factor=draw(factors))
    if kind == "adjoint":
        return draw(inner).H
    parts = tuple(draw(st.lists(inner, min_size=1, max_size=3)))
    return Compose(operators=parts) if kind == "compose" else Sum(operators=parts)


def _corner(shape):
    corner = torch.zeros(shape, dtype=torch.float64)
    corner[0, 0, 0] = 1.0
    return corner


trees = shapes.flatmap(operators)


# --- specs ---


@given(config=anything)
def test_no_config_crashes_build(config):
    """Whatever is in the file: a component or an error that is ours."""
    for kind in ("operators", "likelihoods", "solvers"):
        try:
            registry.build(kind, config if isinstance(config, str | dict) else {"name": config})
        except PnpkitError as error:
            assert str(error)
        except TypeError:
            assert not isinstance(config, str | dict), "an unhashable or missing name"


@given(name=st.text(min_size=1, max_size=12), value=anything)
def test_unknown_parameters_never_pass(name, value):
    assume(name not in ("shape", "complex", "self"))
    with pytest.raises(SpecError, match="has no parameter"):
        Identity(shape=(1, 2, 2), **{name: value})


@given(value=anything)
def test_a_positive_float_is_a_positive_float(value):
    try:
        sigma = float(Gaussian(sigma=value).sigma)
        assert type(value) in (int, float) and sigma > 0 and math.isfinite(sigma)
    except PnpkitError:
        fits = type(value) in (int, float) and 0 < value < 1e38 and value > 1e-45
        assert not fits


@given(gain=st.floats(1e-6, 1e6), background=st.floats(0, 1e6), sigma=st.floats(1e-6, 1e6), n=st.integers(1, 9))
def test_saved_forms_survive_json(gain, background, sigma, n):
    split = SplitLikelihood(parts=(Poisson(gain=gain, background=background), Gaussian(sigma=sigma)), sizes=(n, 1))
    config, tensors = spec.encode(split)
    again = spec.rebuild("likelihoods", json.loads(json.dumps(config)), tensors)
    assert spec.digest(again) == spec.digest(split) and again.sizes == (n, 1)


@given(tree=trees)
def test_any_tree_of_operators_rebuilds(tree):
    config, tensors = spec.encode(tree)
    again = spec.rebuild("operators", json.loads(json.dumps(config)), tensors)
    x = tensor((2, *tree.in_shape), 1)
    assert spec.digest(again) == spec.digest(tree) and torch.equal(again(x), tree(x))


@given(shape=shapes, a=seeds, b=seeds)
def test_digests_are_equal_exactly_when_tensors_are(shape, a, b):
    one, two = tensor(shape, a), tensor(shape, b)
    assert (spec.tensor_digest(one) == spec.tensor_digest(two)) == torch.equal(one, two)


# --- shapes ---


@given(shape=shapes, given_shape=st.lists(st.integers(0, 5), max_size=5))
def test_exactly_the_right_shape_is_accepted(shape, given_shape):
    op, x = Identity(shape=shape), torch.zeros(given_shape)
    if len(given_shape) == 4 and tuple(given_shape[1:]) == shape:
        assert op(x).shape == x.shape
    else:
        with pytest.raises(ShapeError):
            op(x)


@given(shape=st.lists(st.integers(-2, 4), max_size=4))
def test_shapes_are_positive_sizes(shape):
    if shape and all(n > 0 for n in shape):
        assert Identity(shape=shape).in_shape == tuple(shape)
    else:
        with pytest.raises(SpecError):
            Identity(shape=shape)


@given(shape=shapes, index=st.lists(st.integers(-1, 5), max_size=6), axis=st.integers(-4, 1))
def test_rows_are_distinct_and_inside(shape, index, axis):
    good = -3 <= axis < 0 and index and len(set(index)) == len(index) and all(0 <= i < shape[axis] for i in index)
    make = lambda: Rows(shape=shape, index=torch.tensor(index, dtype=torch.int64), axis=axis)  # noqa: E731
    if not good:
        with pytest.raises(SpecError):
            make()
        return
    x = tensor((2, *shape), 0, torch.float32)
    assert torch.equal(make()(x), x.index_select(axis, torch.tensor(index)))


@given(shape=shapes, parts=st.lists(seeds, min_size=1, max_size=4))
def test_stack_splits_what_it_joins(shape, parts):
    stack = Stack(operators=tuple(Diagonal(weight=tensor(shape, s), shape=shape) for s in parts))
    y = stack(tensor((2, *shape), 3))
    assert torch.equal(stack.join(stack.split(y)), y) and len(stack.split(y)) == len(parts)


# --- algebra ---


@given(tree=trees, seed=seeds)
def test_adjoint_of_any_tree(tree, seed):
    x, y = tensor((2, *tree.in_shape), seed), tensor((2, *tree.out_shape), seed + 1)
    left, right = linalg.inner(tree(x), y), linalg.inner(x, tree.adjoint(y))
    size = linalg.norm(tree(x)) * linalg.norm(y)
    assert bool(((left - right).abs() <= 1e-12 * size + 1e-300).all())


@given(tree=trees, seed=seeds, tau=st.floats(1e-6, 1e6))
def test_prox_of_any_tree_is_optimal(tree, seed, tau):
    """Diagonal trees have a closed form, whatever was composed: no CG, and exact."""
    assert tree.gram() is not None
    z, y = tensor((2, *tree.in_shape), seed), tensor((2, *tree.out_shape), seed + 1)
    x = tree.prox_l2(z, y, tau)
    left = x - z + tau * tree.adjoint(tree(x) - y)
    size = linalg.norm(z) + tau * linalg.norm(tree.adjoint(y)) + tau * linalg.norm(tree.normal(x))
    assert bool((linalg.norm(left) <= 1e-9 * size).all())


@given(tree=trees)
def test_norm_of_any_tree_is_its_largest_singular_value(tree):
    true = float(torch.linalg.matrix_norm(linalg.dense(tree, tree.in_shape, torch.float64), ord=2))
    assert float(tree.norm()) == pytest.approx(true, rel=1e-6, abs=1e-12)


@given(tree=trees, seed=seeds)
def test_pinv_of_any_tree_is_numpy_s(tree, seed):
    matrix = linalg.dense(tree, tree.in_shape, torch.float64)
    y = tensor((1, *tree.out_shape), seed)
    singular = torch.linalg.svdvals(matrix)
    top = float(singular.max())
    near = (singular > 1e-8 * top) & (singular < 1e-4 * top)
    assume(top > 0 and not bool(near.any()))
    wanted = torch.linalg.pinv(matrix, rtol=1e-6) @ y.flatten()
    torch.testing.assert_close(tree.pinv(y).flatten(), wanted, rtol=1e-6, atol=1e-9 / top)


@given(c=factors, seed=seeds, shape=shapes)
def test_scaling_twice_is_scaling_once(c, seed, shape):
    op, x = Diagonal(weight=tensor(shape, seed), shape=shape), tensor((1, *shape), seed + 1)
    torch.testing.assert_close((c * (c * op))(x), ((c * c) * op)(x))


# --- grams ---


@given(
    shape=shapes, seed=seeds, tau=st.floats(0, 1e6), basis=st.sampled_from(["scalar", "pixel", "fourier2", "fourier3"])
)
def test_gram_solve_undoes_identity_plus_gram(shape, seed, tau, basis):
    values = tensor((1, *shape), seed).square()
    if basis.startswith("fourier"):
        values = torch.fft.fftn(values, dim=tuple(range(-int(basis[-1]), 0))).abs()
    g = Gram.scalar(float(values.flatten()[0])) if basis == "scalar" else Gram(basis, values)
    b = tensor((2, *shape), seed + 1)
    x = g.solve(b, tau)
    torch.testing.assert_close(x + tau * g.apply(x), b, rtol=1e-8, atol=1e-8)


# --- problems ---


@given(shape=shapes, seed=seeds, sigma=st.floats(1e-3, 1e3), tau=st.floats(1e-4, 1e4), c=st.floats(1e-4, 1e4))
def test_problem_means_the_same_in_any_units(shape, seed, sigma, tau, c):
    op = Diagonal(weight=tensor(shape, seed), shape=shape)
    noise = Gaussian(sigma=torch.tensor(sigma, dtype=torch.float64))
    problem, z = Problem(op, noise, tensor((2, *shape), seed + 1)), tensor((2, *shape), seed + 2)
    scaled = problem.scaled(c)
    torch.testing.assert_close(scaled.nll(c * z), problem.nll(z), rtol=1e-8, atol=0)
    torch.testing.assert_close(scaled.prox(c * z, c * c * tau) / c, problem.prox(z, tau), rtol=1e-8, atol=1e-12)


@given(shape=shapes, start=st.integers(0, 4), length=st.integers(1, 4), seed=seeds)
def test_slices_of_a_problem(shape, start, length, seed):
    op = Diagonal(weight=tensor((5, *shape), seed), shape=shape)
    sigma = tensor((5,), seed).abs() + 0.1
    problem, x = Problem(op, Gaussian(sigma=sigma), tensor((5, *shape), seed + 1)), tensor((5, *shape), seed + 2)
    part = slice(start, start + length)
    torch.testing.assert_close(problem[part].grad(x[part]), problem.grad(x)[part])


# --- solves ---


@given(n=st.integers(1, 8), seed=seeds, exponent=st.integers(-12, 12))
def test_cg_is_exact_in_n_steps_at_any_scale(n, seed, exponent):
    m = tensor((n, n), seed)
    m = m @ m.T / n + 0.3 * torch.eye(n, dtype=torch.float64)
    b = 10.0**exponent * tensor((1, n), seed + 1)
    x, report = linalg.cg(lambda v: v @ m.T, b, tol=1e-9, max_iter=4 * n + 8)
    assert bool(report.converged) and bool((linalg.norm(x @ m.T - b) <= 1e-8 * linalg.norm(b)).all())
