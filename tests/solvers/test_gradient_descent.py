"""Gradient descent against NumPy, SciPy and closed forms."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from pnpkit.errors import DataError, DivergedError
from pnpkit.likelihoods import Gaussian, Poisson, SplitLikelihood
from pnpkit.operators.algebra import Stack
from pnpkit.operators.diagonal import Identity
from pnpkit.problem import Problem
from pnpkit.solvers.base import iterate, solve
from pnpkit.solvers.gradient_descent import GradientDescent

from ..operators.toys_contracts import Saturation
from .toys import counts, dense, flat, least_squares, normal_equations, relative, rng


@pytest.mark.parametrize("kind", ["number", "sample", "element"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_least_squares(dtype, kind):
    problem = least_squares(kind, dtype, operator=dense(rows=40, dtype=dtype))
    h, b = normal_equations(problem)
    wanted = np.linalg.solve(h, b[..., None])[..., 0]
    assert relative(flat(solve(problem, None, GradientDescent(n_steps=800)).x), wanted) < 1e-8


def test_the_step_is_one_over_the_largest_eigenvalue():
    problem = least_squares("sample")
    h, _ = normal_equations(problem)
    step = GradientDescent().init(problem, None, rng()).step
    assert np.allclose(1 / step.numpy(), np.linalg.eigvalsh(h)[:, -1], rtol=3e-3)
    half = GradientDescent(relative_step=0.5).init(problem, None, rng()).step
    assert torch.allclose(half, step / 2)


def poisson_reference(problem, i: int) -> np.ndarray:
    a, y = problem.operator.entries.numpy(), problem.y[i].numpy()
    gain, b = problem.likelihood.gain, float(problem.likelihood.background)

    def fun(x):
        rate = gain * (a @ x) + b
        if (rate <= 0).any():
            return np.inf, np.zeros_like(x)
        return (rate - y * np.log(rate)).sum(), gain * a.T @ (1 - y / rate)

    start = np.full(a.shape[1], 0.5)
    return minimize(fun, start, jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 5000}).x


def test_counts_by_a_searched_step_match_scipy():
    problem = counts(dense(rows=60, positive=True), gain=500.0, background=20.0)
    x = solve(problem, None, GradientDescent(n_steps=4000)).x
    wanted = np.stack([poisson_reference(problem, i) for i in range(3)])
    assert relative(flat(x), wanted) < 1e-4
    nll = problem.nll(x).numpy()
    best = problem.nll(torch.from_numpy(wanted).reshape(3, 1, 3, 4)).numpy()
    assert np.all(nll - best <= 1e-9 * np.abs(best))


def test_counts_seen_directly_have_a_closed_form():
    operator = Identity(shape=(1, 3, 4)).double()
    y = torch.tensor([0.0, 1, 2, 5, 9, 30, 100, 300, 4, 3, 2, 1], dtype=torch.float64).reshape(1, 1, 3, 4) + 1
    problem = Problem(operator, Poisson(gain=20.0, background=3.0).double(), y)
    x = solve(problem, None, GradientDescent(n_steps=3000)).x
    assert torch.allclose(x, (y - 3.0) / 20.0, atol=1e-6)


def test_counts_never_rise_in_nll():
    problem = counts()
    values = torch.stack([problem.nll(s.x) for s in iterate(problem, None, GradientDescent(n_steps=60), rng())])
    assert bool((values.diff(dim=0) <= 1e-12 * values[:-1].abs()).all())
    assert bool((values[0] - values[-1] > 1e-3).all())


def test_a_non_linear_operator_descends_to_a_stationary_point():
    operator = Saturation.example().to(torch.float64)
    x = 0.5 * torch.randn(3, *operator.in_shape, dtype=torch.float64, generator=rng(2))
    problem = Problem(operator, Gaussian(sigma=0.1).double(), operator(x))
    x0 = torch.full_like(x, 0.1)
    steps = list(iterate(problem, None, GradientDescent(n_steps=300), rng(), x0))
    values = torch.stack([problem.nll(s.x) for s in steps])
    assert bool((values.diff(dim=0) <= 1e-9 * values[0]).all())
    assert float(problem.grad(steps[-1].x).norm() / problem.grad(x0).norm()) < 1e-6


def test_mixed_noise_is_minimised_to_a_zero_gradient():
    stack = Stack(operators=(dense(rows=20, positive=True, seed=1), dense(rows=20, positive=True, seed=2)))
    likelihood = SplitLikelihood(
        parts=(Gaussian(sigma=0.1).double(), Poisson(gain=100.0, background=5.0).double()), sizes=stack.sizes
    )
    x = 0.2 + torch.rand(2, 1, 3, 4, dtype=torch.float64, generator=rng(2))
    problem = Problem(stack, likelihood, likelihood.sample(stack(x), rng(3)))
    found = solve(problem, None, GradientDescent(n_steps=3000)).x
    assert float(problem.grad(found).norm() / problem.grad(torch.full_like(x, 0.7)).norm()) < 1e-7


def test_a_searched_step_is_each_samples_own():
    """One sample has 1000 times the counts of the next: iterates are the same as alone."""
    operator = dense(rows=40, positive=True)
    x = torch.tensor([1.0, 1000.0, 1e6], dtype=torch.float64).reshape(3, 1, 1, 1) * torch.ones(3, 1, 3, 4).double()
    likelihood = Poisson(gain=1.0, background=1.0).double()
    problem = Problem(operator, likelihood, likelihood.sample(operator(x), rng(3)))
    solver = GradientDescent(n_steps=40)
    whole = solve(problem, None, solver).x
    for i in range(3):
        assert torch.allclose(whole[i : i + 1], solve(problem[i : i + 1], None, solver).x, rtol=1e-9)


def test_a_start_at_zero_is_searched_in_the_units_of_the_data():
    problem = counts()
    x0 = torch.zeros(3, 1, 3, 4, dtype=torch.float64)
    plain = solve(problem, None, GradientDescent(n_steps=10), x0=x0).x
    for c in (1e-5, 1e5):
        assert torch.allclose(
            solve(problem.scaled(c), None, GradientDescent(n_steps=10), x0=x0).x / c, plain, rtol=1e-6
        )


def test_a_given_step_is_taken_as_it_is():
    problem = least_squares()
    x0 = torch.ones(3, 1, 3, 4, dtype=torch.float64)
    solver = GradientDescent(n_steps=1, step_size=1e-3)
    assert torch.allclose(solve(problem, None, solver, x0=x0).x, x0 - 1e-3 * problem.grad(x0), rtol=1e-12)
    assert solver.scaled(10.0).step_size == pytest.approx(0.1)


def test_too_long_a_given_step_diverges_and_says_where():
    problem = least_squares()
    long = GradientDescent(n_steps=500, step_size=float(5 / problem.lipschitz.min()))
    with pytest.raises(DivergedError, match="GradientDescent diverged at step") as caught:
        solve(problem, None, long)
    assert bool(torch.isfinite(caught.value.x).all()) and 0 < caught.value.step < 500


def test_a_start_without_a_density_is_refused():
    problem = counts()
    with pytest.raises(DataError, match=r"negative|< 0"):
        solve(problem, None, GradientDescent(n_steps=2), x0=torch.full((3, 1, 3, 4), -5.0, dtype=torch.float64))
