"""CG against NumPy's dense solver."""

import numpy as np
import pytest
import torch

from pnpkit.errors import CapabilityError
from pnpkit.likelihoods import Gaussian, Poisson, SplitLikelihood
from pnpkit.operators.algebra import Stack
from pnpkit.operators.inpainting import Inpainting
from pnpkit.priors.tikhonov import Tikhonov
from pnpkit.problem import Problem
from pnpkit.solvers.base import iterate, solve
from pnpkit.solvers.cg import CG
from pnpkit.solvers.fista import FISTA

from ..operators.toys_contracts import Coils, RunningSum
from .toys import dense, flat, least_squares, normal_equations, relative, rng


@pytest.mark.parametrize("weight", [0.0, 3.0])
@pytest.mark.parametrize("kind", ["number", "sample", "element"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_solves_the_regularised_normal_equations(dtype, kind, weight):
    problem = least_squares(kind, dtype)
    h, b = normal_equations(problem)
    wanted = np.linalg.solve(h + weight * np.eye(h.shape[-1]), b[..., None])[..., 0]
    assert relative(flat(solve(problem, None, CG(n_steps=40, weight=weight)).x), wanted) < 1e-9


def test_ends_after_as_many_steps_as_unknowns():
    problem = least_squares()
    h, b = normal_equations(problem)
    wanted = np.linalg.solve(h, b[..., None])[..., 0]
    assert relative(flat(solve(problem, None, CG(n_steps=12)).x), wanted) < 1e-9
    assert relative(flat(solve(problem, None, CG(n_steps=6)).x), wanted) > 1e-6


def test_few_measurements_give_the_minimum_norm_solution():
    problem = least_squares(operator=dense(rows=7))
    wanted = np.linalg.pinv(problem.operator.entries.numpy()) @ problem.y.numpy()[..., None]
    result = solve(problem, None, CG(n_steps=30))
    assert relative(flat(result.x), wanted[..., 0]) < 1e-9


@pytest.mark.parametrize("operator", [Coils.example().to(torch.float64), RunningSum(shape=(1, 3, 4)).to(torch.float64)])
def test_other_operators_reach_a_zero_gradient(operator):
    problem = least_squares(operator=operator)
    x = solve(problem, None, CG(n_steps=60)).x
    assert float(problem.grad(x).norm() / problem.rhs().norm()) < 1e-9


def test_a_stack_of_gaussians_is_one_problem_with_per_element_noise():
    first, second = dense(rows=9, seed=1), dense(rows=10, seed=2)
    stack = Stack(operators=(first, second))
    parts = tuple(Gaussian(sigma=torch.tensor(s, dtype=torch.float64)) for s in (0.1, 0.5))
    likelihood = SplitLikelihood(parts=parts, sizes=stack.sizes)
    x = torch.randn(2, 1, 3, 4, dtype=torch.float64, generator=rng(2))
    problem = Problem(stack, likelihood, likelihood.sample(stack(x), rng(3)))
    a = np.concatenate([first.entries.numpy() / 0.1, second.entries.numpy() / 0.5])
    y = problem.y.numpy() / np.r_[np.full(9, 0.1), np.full(10, 0.5)]
    wanted = np.stack([np.linalg.lstsq(a, row, rcond=None)[0] for row in y])
    assert relative(flat(solve(problem, None, CG(n_steps=40)).x), wanted) < 1e-9


def test_weight_is_the_tikhonov_prior():
    problem = least_squares("sample")
    with_prior = solve(problem, Tikhonov(weight=4.0), FISTA(n_steps=2000)).x
    assert torch.allclose(solve(problem, None, CG(n_steps=40, weight=4.0)).x, with_prior, rtol=1e-7, atol=1e-9)


def test_warm_start_at_the_solution_stays_there():
    problem = least_squares()
    x = solve(problem, None, CG(n_steps=40)).x
    again = solve(problem, None, CG(n_steps=3, tol=1e-8), x0=x)
    assert again.steps == 1 and again.stopped == "tol"
    assert torch.allclose(again.x, x, rtol=1e-9)
    elsewhere = solve(problem, None, CG(n_steps=40), x0=torch.ones_like(x)).x
    assert torch.allclose(elsewhere, x, rtol=1e-8)


def test_a_solved_sample_stands_still_while_others_go_on():
    problem = least_squares()
    x = solve(problem, None, CG(n_steps=40)).x
    start = torch.cat([x[:1], torch.zeros_like(x[1:])])
    steps = [s.state.x.clone() for s in iterate(problem, None, CG(n_steps=8, tol=1e-6), rng(), start)]
    assert len(steps) == 8
    assert all(torch.equal(s[0], x[0]) for s in steps)
    assert not torch.equal(steps[-1][1], steps[-2][1])


def test_iterates_do_not_depend_on_the_rest_of_the_batch():
    problem = least_squares("element")
    whole = [s.state.x for s in iterate(problem, None, CG(n_steps=10), rng())]
    alone = [s.state.x for s in iterate(problem[1:2], None, CG(n_steps=10), rng())]
    for a, b in zip(whole, alone, strict=True):
        assert torch.allclose(a[1:2], b, rtol=1e-9, atol=1e-12)


def test_reported_residual_is_the_true_one():
    problem = least_squares()
    for step in iterate(problem, None, CG(n_steps=5, weight=2.0), rng()):
        r = problem.rhs() - problem.normal(step.x) - 2.0 * step.x
        true = r.flatten(1).norm(dim=1) / problem.rhs().flatten(1).norm(dim=1)
        assert torch.allclose(step.info["residual"], true, rtol=1e-6)


def test_float32_stays_at_its_precision_for_ever():
    problem = least_squares()
    single = Problem(problem.operator.to(torch.float32), Gaussian(sigma=0.2), problem.y.float())
    x = solve(single, None, CG(n_steps=400)).x
    wanted = solve(least_squares(), None, CG(n_steps=40)).x
    assert relative(flat(x.double()), flat(wanted)) < 1e-4


def test_scale_of_the_data_does_not_matter():
    problem = least_squares()
    solver = CG(n_steps=7, weight=5.0)
    x = solve(problem, None, solver).x
    for c in (1e-6, 1e6):
        assert torch.allclose(solve(problem.scaled(c), None, solver.scaled(c)).x / c, x, rtol=1e-9)


def test_zero_data_gives_zero():
    problem = least_squares()
    result = solve(Problem(problem.operator, problem.likelihood, torch.zeros_like(problem.y)), None, CG(n_steps=5))
    assert bool((result.x == 0).all()) and bool(result.finite.all())


def test_calls_are_counted_through_per_element_noise():
    result = solve(least_squares("element"), None, CG(n_steps=5))
    assert result.calls["forward"] == 5 and result.calls["adjoint"] == 6


def test_per_element_noise_keeps_the_closed_form_and_the_callers_cg_settings():
    mask = torch.ones(1, 3, 4)
    mask[0, 0, 0] = 0
    y = torch.ones(2, 1, 3, 4)
    problem = Problem(Inpainting(mask=mask).with_cg(max_iter=7), Gaussian(sigma=0.1 + torch.rand(1, 1, 3, 4)), y)
    operator = problem.whitened[0]
    assert operator.gram() is not None and operator.cg.max_iter == 7


def test_counts_are_refused():
    problem = Problem(dense(positive=True), Poisson(), torch.ones(1, 18, dtype=torch.float64))
    with pytest.raises(CapabilityError, match="gaussian"):
        solve(problem, None, CG())
