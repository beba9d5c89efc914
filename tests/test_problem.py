"""Problem: value, gradient, prox and sample against dense linear algebra; slices, repeats, scales, groups."""

import pickle

import pytest
import torch

from pnpkit.errors import CapabilityError, DataError, ShapeError, SpecError
from pnpkit.likelihoods import Gaussian, Poisson, SplitLikelihood
from pnpkit.linalg import dense, expand
from pnpkit.operators.algebra import Stack
from pnpkit.operators.diagonal import Diagonal, Identity
from pnpkit.operators.inpainting import Inpainting
from pnpkit.problem import Problem, ProblemGroup

from .operators.toys_contracts import Coils, Dense, Filter, Saturation, rng

F64 = torch.float64


def exact(op):
    return op.to(F64).with_cg(tol=1e-13, max_iter=500)


def randn(*shape: int, dtype=F64, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=rng(seed))


SIGMAS = {
    "number": 0.3,
    "per sample": torch.tensor([0.1, 0.3, 2.0], dtype=F64),
    "per element": torch.rand(1, 9, dtype=F64, generator=rng(1)) + 0.1,
    "per sample and element": torch.rand(3, 9, dtype=F64, generator=rng(2)) + 0.1,
}


def dense_problem(sigma) -> Problem:
    return Problem(exact(Dense.example()), Gaussian(sigma=sigma).to(F64), randn(3, 9, seed=3))


def precision_and_mean(
    problem: Problem, z: torch.Tensor, tau: torch.Tensor, i: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of p(x) ∝ exp(−nll(x) − ‖x − z‖²/(2 tau)) for sample i, by dense linear algebra."""
    a = problem.operator.entries
    weight = (1 / problem.likelihood.std(problem.y) ** 2).expand(problem.y.shape)[i]
    precision = a.T @ (weight[:, None] * a) + torch.eye(a.shape[1], dtype=F64) / tau[i]
    return precision, torch.linalg.solve(precision, a.T @ (weight * problem.y[i]) + z[i].flatten() / tau[i])


# --- the data term ---


@pytest.mark.parametrize("sigma", SIGMAS.values(), ids=SIGMAS)
def test_prox_is_the_dense_solution(sigma):
    problem, z = dense_problem(sigma), randn(3, 1, 3, 4, seed=4)
    tau = torch.tensor([1e-3, 0.2, 50.0], dtype=F64)
    x = problem.prox(z, tau)
    for i in range(3):
        torch.testing.assert_close(x[i].flatten(), precision_and_mean(problem, z, tau, i)[1], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("sigma", SIGMAS.values(), ids=SIGMAS)
def test_gradient_is_that_of_nll(sigma):
    problem, x = dense_problem(sigma), randn(3, 1, 3, 4, seed=5).requires_grad_()
    (g,) = torch.autograd.grad(problem.nll(x).sum(), x)
    torch.testing.assert_close(problem.grad(x.detach()), g)


@pytest.mark.parametrize("sigma", SIGMAS.values(), ids=SIGMAS)
def test_gradient_is_the_normal_operator_minus_the_right_hand_side(sigma):
    problem, x = dense_problem(sigma), randn(3, 1, 3, 4, seed=27)
    torch.testing.assert_close(problem.normal(x) - problem.rhs(), problem.grad(x))


@pytest.mark.parametrize("sigma", SIGMAS.values(), ids=SIGMAS)
def test_prox_solves_its_optimality_condition_with_the_gradient(sigma):
    """x − z + tau·∇nll(x) = 0 ties prox and grad to one sigma."""
    problem, z = dense_problem(sigma), randn(3, 1, 3, 4, seed=4)
    tau = torch.tensor([1e-3, 0.2, 50.0], dtype=F64)
    x = problem.prox(z, tau)
    step = expand(tau, x) * problem.grad(x)
    torch.testing.assert_close(x - z, -step, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("sigma", ["number", "per element"])
def test_samples_have_the_posterior_s_mean_and_covariance(sigma):
    """20 000 draws: the mean to 5 standard errors, the whitened covariance to 3√(d/n)."""
    n, tau = 20_000, torch.tensor([0.5], dtype=F64)
    problem, z = dense_problem(SIGMAS[sigma])[0:1], randn(1, 1, 3, 4, seed=6)
    precision, mean = precision_and_mean(problem, z, tau, 0)
    many = problem.repeat(n)
    draws = many.sample(z.expand(n, -1, -1, -1), tau.expand(n), rng(7)).flatten(1)
    root = torch.linalg.cholesky(precision)
    white = (draws - mean) @ root
    assert float(white.mean(0).abs().max()) < 5 / n**0.5
    gap = torch.linalg.matrix_norm(torch.cov(white.T) - torch.eye(12, dtype=F64), ord=2)
    assert float(gap) < 3 * (12 / n) ** 0.5


def test_samples_of_a_complex_problem_have_the_right_spread():
    """A unitary-like operator: every real component of the posterior has variance 1/(1/tau + 1/sigma²)."""
    problem = Problem(
        Identity(shape=(1, 2, 2), complex=True).to(F64),
        Gaussian(sigma=0.5).to(F64),
        0 * randn(1, 1, 2, 2, dtype=torch.complex128),
    )
    many = problem.repeat(20_000)
    x = many.sample(torch.zeros_like(many.y), 0.25, rng(8))
    for part in (x.real, x.imag):
        torch.testing.assert_close(part.var(0), torch.full((1, 2, 2), 0.125, dtype=F64), rtol=0.05, atol=0)


def test_complex_prox_is_the_dense_solution():
    op = exact(Coils.example())
    noise = Gaussian(sigma=torch.tensor(0.3, dtype=F64))
    problem = Problem(op, noise, randn(2, *op.out_shape, dtype=torch.complex128, seed=9))
    z = randn(2, *op.in_shape, dtype=torch.complex128, seed=10)
    a = dense(op, op.in_shape, torch.complex128)
    left = torch.eye(a.shape[1], dtype=a.dtype) + 0.7 / 0.09 * a.mH @ a
    right = z.flatten(1) + 0.7 / 0.09 * problem.y.flatten(1) @ a.conj()
    wanted = torch.linalg.solve(left, right.T).T.reshape(z.shape)
    torch.testing.assert_close(problem.prox(z, 0.7), wanted, rtol=1e-8, atol=1e-10)


def test_prox_of_a_stack_with_noise_per_part():
    parts = (exact(Filter.example()), exact(Inpainting.example()))
    stack = exact(Stack(operators=parts))
    noise = SplitLikelihood(parts=(Gaussian(sigma=0.1), Gaussian(sigma=0.7)), sizes=stack.sizes).to(F64)
    problem = Problem(stack, noise, randn(2, 80, seed=11))
    z, tau = randn(2, 2, 5, 4, seed=12), 0.3
    x = problem.prox(z, tau)
    torch.testing.assert_close(x - z, -tau * problem.grad(x), rtol=1e-7, atol=1e-9)


def test_lipschitz_bounds_the_gradient_s_slope_and_is_attained():
    for sigma in SIGMAS.values():
        problem = dense_problem(sigma)
        a, std = problem.operator.entries, problem.likelihood.std(problem.y).expand(3, 9)
        wanted = torch.stack([torch.linalg.matrix_norm(a / s[:, None], ord=2) ** 2 for s in std])
        torch.testing.assert_close(problem.lipschitz, wanted, rtol=1e-2, atol=0)


def test_gradient_of_a_non_linear_problem():
    op = Saturation.example().to(F64)
    problem = Problem(op, Gaussian(sigma=0.2).to(F64), randn(2, *op.out_shape, seed=13))
    x = randn(2, *op.in_shape, seed=14).requires_grad_()
    (g,) = torch.autograd.grad(problem.nll(x).sum(), x)
    torch.testing.assert_close(problem.grad(x.detach()), g)
    for call in (lambda: problem.prox(x, 1.0), lambda: problem.sample(x, 1.0, rng()), lambda: problem.lipschitz):
        with pytest.raises(CapabilityError, match="linear operator and Gaussian noise; here Saturation and Gaussian"):
            call()


def test_poisson_gradient_and_missing_prox():
    op = Inpainting(mask=torch.ones(1, 2, 3))
    problem = Problem(
        op, Poisson(gain=10.0, background=1.0), torch.poisson(torch.full((1, 1, 2, 3), 5.0), generator=rng())
    )
    x = torch.rand(1, 1, 2, 3, generator=rng(1)).requires_grad_()
    (g,) = torch.autograd.grad(problem.nll(x).sum(), x)
    torch.testing.assert_close(problem.grad(x.detach()), g)
    with pytest.raises(CapabilityError, match="Poisson"):
        problem.prox(x, 1.0)


# --- bad data ---


def identity_problem(y: torch.Tensor, **noise) -> Problem:
    return Problem(Identity(shape=(1, 2, 3)), Gaussian(**{"sigma": 0.1, **noise}), y)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_y_with_nan_or_inf_names_the_samples(value):
    y = torch.zeros(3, 1, 2, 3)
    y[0, 0, 1, 1] = y[2, 0, 0, 0] = value
    with pytest.raises(DataError, match=r"NaN or Inf in sample\(s\) \[0, 2\]"):
        identity_problem(y)


def test_complex_y_with_a_nan_in_its_imaginary_part():
    op = Identity(shape=(1, 2, 3), complex=True)
    y = torch.zeros(1, 1, 2, 3, dtype=torch.complex64)
    y[0, 0, 0, 0] = complex(0.0, float("nan"))
    with pytest.raises(DataError, match="NaN"):
        Problem(op, Gaussian(sigma=1.0), y)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.zeros(1, 2, 3), r"y has shape \(1, 2, 3\), expected \(B, 1, 2, 3\).*Add the batch axis"),
        (torch.zeros(2, 1, 3, 2), "expected"),
        (torch.zeros(2, 1, 2, 3, dtype=F64), "y is torch.float64, expected torch.float32"),
        (torch.zeros(2, 1, 2, 3, dtype=torch.int64), "int64"),
        (torch.zeros(2, 1, 2, 3, device="meta"), "meta"),
        ([[1.0]], "must be a tensor, given list"),
    ],
    ids=["no batch", "shape", "dtype", "integer", "device", "list"],
)
def test_y_that_does_not_fit_the_operator(y, message):
    with pytest.raises(ShapeError, match=message):
        identity_problem(y)


def test_parts_of_the_wrong_kind():
    with pytest.raises(SpecError, match="Problem\\(operator, likelihood, y\\): given Gaussian"):
        Problem(Gaussian(sigma=0.1), Identity(shape=(1, 2, 3)), torch.zeros(1, 1, 2, 3))


def test_sigma_that_does_not_fit_the_batch():
    with pytest.raises(ShapeError, match="sigma has shape"):
        identity_problem(torch.zeros(3, 1, 2, 3), sigma=torch.ones(2))


def test_y_for_another_number_of_samples_than_the_parameters():
    op = Filter.example()
    many = op.at(kernel=torch.stack([op.kernel] * 3))
    with pytest.raises(ShapeError, match="y has 2 samples but the parameters are for 3"):
        Problem(many, Gaussian(sigma=0.1), torch.zeros(2, *op.out_shape))


@pytest.mark.parametrize("tau", [-1.0, float("inf"), float("nan")])
def test_impossible_prox_steps(tau):
    problem = identity_problem(torch.zeros(1, 1, 2, 3))
    with pytest.raises(SpecError, match="tau"):
        problem.prox(torch.zeros(1, 1, 2, 3), tau)


# --- other problems ---


@pytest.mark.parametrize("sigma", SIGMAS.values(), ids=SIGMAS)
def test_slice_of_a_problem_is_the_problem_of_the_slice(sigma):
    problem, x = dense_problem(sigma), randn(3, 1, 3, 4, seed=15)
    for part in (slice(0, 1), slice(1, 3), slice(None)):
        torch.testing.assert_close(problem[part].nll(x[part]), problem.nll(x)[part])
        torch.testing.assert_close(problem[part].prox(x[part], 0.3), problem.prox(x, 0.3)[part], rtol=1e-8, atol=1e-10)
    with pytest.raises(SpecError, match=r"problem\[i:i\+1\]"):
        problem[0]


@pytest.mark.parametrize("sigma", SIGMAS.values(), ids=SIGMAS)
def test_repeated_problem_repeats_its_values(sigma):
    problem, x = dense_problem(sigma), randn(3, 1, 3, 4, seed=16)
    twice = problem.repeat(2)
    assert twice.batch == 6
    torch.testing.assert_close(twice.nll(x.repeat_interleave(2, 0)), problem.nll(x).repeat_interleave(2, 0))


def test_repeat_of_parameters_per_sample():
    op = Filter.example().to(F64)
    many = op.at(kernel=torch.stack([op.kernel * f for f in (1.0, 2.0)]))
    problem = Problem(many, Gaussian(sigma=torch.tensor([0.1, 0.2])).to(F64), randn(2, *op.out_shape, seed=17))
    x = randn(2, *op.in_shape, seed=18)
    wanted = problem.prox(x, torch.tensor([0.1, 0.4], dtype=F64)).repeat_interleave(3, 0)
    given = problem.repeat(3).prox(x.repeat_interleave(3, 0), torch.tensor([0.1, 0.4], dtype=F64).repeat_interleave(3))
    torch.testing.assert_close(given, wanted)


@pytest.mark.parametrize("c", [1e-6, 0.5, 1e6])
@pytest.mark.parametrize("sigma", SIGMAS.values(), ids=SIGMAS)
def test_scaled_problem_is_the_same_in_other_units(c, sigma):
    problem, z = dense_problem(sigma), randn(3, 1, 3, 4, seed=19)
    scaled = problem.scaled(c)
    torch.testing.assert_close(scaled.nll(c * z), problem.nll(z))
    torch.testing.assert_close(c * scaled.grad(c * z), problem.grad(z))
    torch.testing.assert_close(scaled.prox(c * z, 0.3 * c * c) / c, problem.prox(z, 0.3), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(scaled.lipschitz * c * c, problem.lipschitz)


@pytest.mark.parametrize("c", [0.0, -1.0, float("inf"), float("nan")])
def test_impossible_scale(c):
    with pytest.raises(SpecError, match="scale must be finite and > 0"):
        dense_problem(0.1).scaled(c)


def test_rows_of_a_problem_are_its_measurements():
    problem, x, idx = dense_problem(SIGMAS["per element"]), randn(3, 1, 3, 4, seed=20), torch.tensor([7, 2, 3])
    rows = problem.rows(idx)
    assert torch.equal(rows.y, problem.y[:, idx])
    residual = (problem.operator(x) - problem.y)[:, idx] / problem.likelihood.sigma[:, idx]
    torch.testing.assert_close(rows.nll(x), 0.5 * residual.square().sum(1))


def test_rows_in_subsets_add_up_to_the_whole_gradient():
    """Ordered subsets: gradients over a partition of the rows sum to the full one."""
    problem, x = dense_problem(0.3), randn(3, 1, 3, 4, seed=21)
    subsets = [torch.arange(start, 9, 3) for start in range(3)]
    torch.testing.assert_close(sum(problem.rows(idx).grad(x) for idx in subsets), problem.grad(x))


def test_at_changes_the_operator_of_a_new_problem_only():
    problem, x = dense_problem(0.3), randn(3, 1, 3, 4, seed=22)
    entries = randn(9, 12, seed=23)
    before = problem.nll(x)
    after = problem.at(entries=entries)
    torch.testing.assert_close(
        after.nll(x), Problem(exact(Dense(entries=entries, shape=(1, 3, 4))), problem.likelihood, problem.y).nll(x)
    )
    assert torch.equal(problem.nll(x), before)


def test_problem_is_frozen_and_pickles():
    problem, x = dense_problem(SIGMAS["per element"]), randn(3, 1, 3, 4, seed=24)
    wanted = problem.prox(x, 0.3)
    with pytest.raises(AttributeError):
        problem.y = problem.y + 1
    torch.testing.assert_close(pickle.loads(pickle.dumps(problem)).prox(x, 0.3), wanted)


def test_nothing_given_is_written_into():
    problem, z = dense_problem(SIGMAS["per element"]), randn(3, 1, 3, 4, seed=25)
    y, before = problem.y.clone(), z.clone()
    problem.nll(z), problem.grad(z), problem.prox(z, 0.5), problem.sample(z, 0.5, rng()), problem.initial(rng())
    assert torch.equal(problem.y, y) and torch.equal(z, before)


def test_sampling_uses_the_generator_it_is_given():
    problem, z, state = dense_problem(0.3), randn(3, 1, 3, 4, seed=26), torch.get_rng_state()
    one, two, three = (problem.sample(z, 0.5, rng(s)) for s in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, three)
    assert torch.equal(torch.get_rng_state(), state)


# --- groups ---


def test_group_has_the_interface_of_a_problem():
    op = Filter.example()
    problems = [
        Problem(op, Gaussian(sigma=0.1 * (i + 1)), torch.randn(i + 1, *op.out_shape, generator=rng(i)))
        for i in range(3)
    ]
    group = ProblemGroup(problems)
    z, tau = torch.randn(6, *op.in_shape, generator=rng(9)), torch.linspace(0.1, 0.6, 6)
    sigma = torch.tensor([0.1, 0.2, 0.2, 0.3, 0.3, 0.3])
    one = Problem(op, Gaussian(sigma=sigma), torch.cat([p.y for p in problems]))
    for name in ("nll", "grad"):
        torch.testing.assert_close(getattr(group, name)(z), getattr(one, name)(z))
    torch.testing.assert_close(group.prox(z, tau), one.prox(z, tau))
    torch.testing.assert_close(group.prox(z, 0.3), one.prox(z, 0.3))
    torch.testing.assert_close(group.prox(z, torch.tensor(0.3)), one.prox(z, 0.3))
    torch.testing.assert_close(group.lipschitz, one.lipschitz)
    torch.testing.assert_close(group.normal(z) - group.rhs(), one.grad(z), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(group.initial(), one.initial())
    torch.testing.assert_close(group.scaled(7.0).nll(7 * z), group.nll(z))
    torch.testing.assert_close(group.repeat(2).nll(z.repeat_interleave(2, 0)), group.nll(z).repeat_interleave(2))
    assert group.sample(z, tau, rng(3)).shape == z.shape
    assert (group.batch, group.in_shape, group.in_dtype) == (6, op.in_shape, op.in_dtype)


def test_group_of_nothing():
    with pytest.raises(SpecError, match="at least one problem"):
        ProblemGroup([])


def test_group_of_different_dtypes():
    one = identity_problem(torch.zeros(1, 1, 2, 3))
    weight = torch.ones(1, 2, 3, dtype=torch.complex64)
    two = Problem(
        Diagonal(weight=weight, shape=(1, 2, 3), complex=True),
        Gaussian(sigma=1.0),
        torch.zeros(1, 1, 2, 3, dtype=torch.complex64),
    )
    with pytest.raises(ShapeError, match="images must agree"):
        ProblemGroup([one, two])
