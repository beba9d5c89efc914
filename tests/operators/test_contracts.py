"""Step 0: the contracts hold for one small operator of every structure, before anything is built on them."""

import pytest
import torch

from pnpkit.errors import CapabilityError, ShapeError
from pnpkit.likelihoods import Gaussian, SplitLikelihood
from pnpkit.linalg import dense
from pnpkit.operators.algebra import Chain, Compose, Rows, Stack
from pnpkit.operators.diagonal import Diagonal, Identity
from pnpkit.operators.in_theta import InTheta, LinearInTheta
from pnpkit.operators.inpainting import Inpainting
from pnpkit.priors.base import Denoiser
from pnpkit.problem import Problem, ProblemGroup
from pnpkit.testing import run_checks

from .toys_contracts import (
    TOYS,
    Coils,
    Dense,
    Filter,
    GaussianImages,
    GaussianPosterior,
    HalfSpectrum,
    Ridge,
    RunningSum,
    Saturation,
    SoftThreshold,
    rng,
)


@pytest.mark.parametrize("name", TOYS)
def test_toy_operator_conforms(name):
    outcomes = run_checks(TOYS[name]())
    assert len(outcomes) >= 30
    assert [f"{o.name}: {o.message}" for o in outcomes if o.bad] == []


@pytest.mark.parametrize("cls", [GaussianImages, GaussianPosterior, Ridge, SoftThreshold])
def test_toy_prior_conforms(cls):
    outcomes = run_checks(cls)
    assert [f"{o.name}: {o.message}" for o in outcomes if o.bad] == []


def test_toys_cover_the_structures_asked_for():
    assert Filter.example().gram() is not None
    assert Dense.example().gram() is None and Dense.example().cogram() is None
    assert Coils.example().in_dtype == torch.complex64
    assert HalfSpectrum.example().out_dtype == torch.complex64 and HalfSpectrum.example().in_dtype == torch.float32
    assert isinstance(TOYS["stacked"](), Stack)
    assert TOYS["chain with a closed form"]().gram() is not None
    assert TOYS["closed form per sample"]().batch == 3


def test_numpy_engine_gives_cumulative_sums_and_gradients_of_any_order():
    op = RunningSum.example().to(torch.float64)
    x = torch.randn(2, *op.in_shape, dtype=torch.float64, generator=rng(), requires_grad=True)
    assert torch.equal(op(x), x.cumsum(-1))
    assert torch.autograd.gradcheck(op, (x,)) and torch.autograd.gradgradcheck(op, (x,))


# --- operators in one batch: parameters per sample, and groups ---


def three_filters() -> tuple[Filter, list[Filter]]:
    op = Filter.example()
    kernels = [op.kernel * f for f in (1.0, 0.5, 2.0)]
    return op.at(kernel=torch.stack(kernels)), [op.at(kernel=k) for k in kernels]


def test_problem_with_one_kernel_per_sample_is_three_problems():
    many, each = three_filters()
    sigma = torch.tensor([0.1, 0.2, 0.3])
    x, y = torch.randn(3, *many.in_shape, generator=rng(1)), torch.randn(3, *many.out_shape, generator=rng(2))
    tau = torch.tensor([0.01, 0.1, 1.0])
    whole = Problem(many, Gaussian(sigma=sigma), y)
    for i, op in enumerate(each):
        part = slice(i, i + 1)
        alone = Problem(op, Gaussian(sigma=float(sigma[i])), y[part])
        torch.testing.assert_close(whole.nll(x)[part], alone.nll(x[part]))
        torch.testing.assert_close(whole.grad(x)[part], alone.grad(x[part]))
        torch.testing.assert_close(whole.prox(x, tau)[part], alone.prox(x[part], float(tau[i])))
        torch.testing.assert_close(whole[part].prox(x[part], tau[part]), alone.prox(x[part], float(tau[i])))
        torch.testing.assert_close(whole.lipschitz[part], alone.lipschitz)


def mixed_group() -> ProblemGroup:
    """Deblurring, inpainting, compressed sensing and a stack, of images of one shape, in one batch."""
    shape = (2, 5, 4)
    operators = [
        Filter.example(),
        Inpainting.example(),
        Dense(entries=torch.randn(15, 40, generator=rng(7)), shape=shape),
        TOYS["stacked"](),
    ]
    problems = []
    for i, op in enumerate(operators):
        y = op(torch.randn(i % 2 + 1, *shape, generator=rng(i)))
        problems.append(Problem(op, Gaussian(sigma=0.1 * (i + 1)), y))
    return ProblemGroup(problems)


def test_group_of_different_operators_is_a_loop_over_its_problems():
    group = mixed_group()
    assert group.batch == 6
    z = torch.randn(6, *group.in_shape, generator=rng(9))
    tau = torch.linspace(0.01, 0.5, 6)
    starts = [0, 1, 3, 4, 6]
    for i, problem in enumerate(group.problems):
        part = slice(starts[i], starts[i + 1])
        assert torch.equal(group.nll(z)[part], problem.nll(z[part]))
        assert torch.equal(group.grad(z)[part], problem.grad(z[part]))
        assert torch.equal(group.prox(z, tau)[part], problem.prox(z[part], tau[part]))
        assert torch.equal(group.lipschitz[part], problem.lipschitz)
        assert torch.equal(group.scaled(3.0).prox(z, tau)[part], problem.scaled(3.0).prox(z[part], tau[part]))
    assert group.initial(rng(1)).shape == z.shape
    assert group.repeat(2).batch == 12


def test_group_refuses_images_of_different_shapes():
    small, large = Identity(shape=(1, 4, 4)), Identity(shape=(1, 4, 5))
    problems = [Problem(op, Gaussian(sigma=1.0), torch.zeros(1, *op.out_shape)) for op in (small, large)]
    with pytest.raises(ShapeError, match="images must agree"):
        ProblemGroup(problems)


# --- a posterior denoiser ---


@pytest.mark.parametrize("name", ["closed form", "cg", "stacked", "numpy engine"])
def test_posterior_denoiser_is_exact_on_every_operator(name):
    """E[x0 | x_t, y] for a Gaussian prior, against the joint Gaussian's linear algebra."""
    op = TOYS[name]().to(torch.float64).with_cg(tol=1e-12, max_iter=500)
    prior = GaussianPosterior(mean=0.3, std=0.5).to(torch.float64)
    x_t = torch.randn(2, *op.in_shape, dtype=torch.float64, generator=rng(3))
    y = torch.randn(2, *op.out_shape, dtype=torch.float64, generator=rng(4))
    problem = Problem(op, Gaussian(sigma=0.2).to(torch.float64), y)
    a = dense(op, op.in_shape, torch.float64)
    for sigma in (0.05, 0.5, 5.0):
        precision = a.T @ a / 0.2**2 + torch.eye(a.shape[1], dtype=a.dtype) * (0.5**-2 + sigma**-2)
        right = y.flatten(1) @ a / 0.2**2 + 0.3 / 0.5**2 + x_t.flatten(1) / sigma**2
        wanted = torch.linalg.solve(precision, right.T).T.reshape(x_t.shape)
        torch.testing.assert_close(prior(x_t, sigma, problem), wanted, rtol=1e-7, atol=1e-8)
        torch.testing.assert_close(prior.given(problem)(x_t, sigma), wanted, rtol=1e-7, atol=1e-8)


def test_posterior_denoiser_given_a_problem_is_a_plain_denoiser():
    problem = Problem(Filter.example(), Gaussian(sigma=0.1), torch.zeros(1, 2, 5, 4))
    given = GaussianPosterior.example().given(problem)
    assert isinstance(given, Denoiser) and "denoise" in given.provides
    assert "denoise" not in GaussianPosterior.example().provides


# --- algebra: which structure survives ---


@pytest.mark.parametrize(
    "make",
    [
        lambda: Filter.example() @ Filter.example(),
        lambda: Inpainting.example() @ Diagonal.example(),
        lambda: 2.0 * Filter.example(),
        lambda: Filter.example() + Filter.example(),
        lambda: Filter.example().H,
        lambda: Rows.example() @ Diagonal.example(),
        lambda: Stack(operators=(Filter.example(), 0.3 * Filter.example())),
        lambda: Stack(operators=(Inpainting.example(), Diagonal.example())),
    ],
    ids=["blur blur", "mask weight", "scaled", "sum", "adjoint", "rows weight", "stack of blurs", "stack of masks"],
)
def test_composition_keeps_a_closed_gram(make):
    assert make().gram() is not None


def test_rows_of_a_blur_keep_no_gram_but_a_mask_after_a_blur_has_none_either():
    masked = Inpainting.example() @ Filter.example()
    assert masked.gram() is None  # diagonal in no common basis: CG, and the suite checks that it converges


def test_products_are_flat_and_linear_exactly_when_all_parts_are():
    a, b = Filter.example(), Saturation(gain=torch.ones(2, 5, 4))
    assert isinstance(a @ (a @ a), Compose) and len((a @ (a @ a)).operators) == 3
    assert isinstance(a @ b, Chain) and not (a @ b).linear
    with pytest.raises(ShapeError, match="Filter @ Dense"):
        a @ Dense.example()


def test_nested_thetas_are_reached_by_path():
    both = Filter.example() @ (0.5 * Filter.example())
    assert set(both.theta) == {"0.kernel", "1.0.kernel"}
    kernel = torch.randn(2, 5, 4, generator=rng(8))
    changed = both.at(**{"1.0.kernel": kernel})
    wanted = Filter.example() @ (0.5 * Filter(kernel=kernel))
    x = torch.randn(1, 2, 5, 4, generator=rng(9))
    torch.testing.assert_close(changed(x), wanted(x))
    assert not torch.equal(both(x), changed(x))


def test_theta_of_a_bilinear_operator_is_just_another_linear_problem():
    """Deconvolving the kernel: known image, unknown kernel, solved by the same prox."""
    op = Filter.example().to(torch.float64)
    image = torch.randn(1, 2, 5, 4, dtype=torch.float64, generator=rng(10))
    inside = op.in_theta("kernel", image)
    assert isinstance(inside, LinearInTheta)
    assert isinstance(Saturation.example().in_theta("gain", torch.zeros(1, 2, 3, 4)), LinearInTheta)
    recovered = inside.with_cg(tol=1e-14, max_iter=2000).pinv(op(image))
    torch.testing.assert_close(recovered[0], op.kernel, rtol=1e-6, atol=1e-8)


def test_in_theta_of_a_parameter_that_is_not_linear():
    class Gamma(Saturation):
        linear_in = ()

    op = Gamma(gain=torch.rand(2, 3, 4, generator=rng(11)))
    assert isinstance(op.in_theta("gain", torch.ones(1, 2, 3, 4)), InTheta)


# --- stacks ---


def test_stack_splits_joins_and_takes_noise_per_part():
    stack = TOYS["stacked"]()
    x = torch.randn(2, *stack.in_shape, generator=rng(12))
    parts = stack.split(stack(x))
    assert [p.shape[1:] for p in parts] == [op.out_shape for op in stack.operators]
    assert torch.equal(stack.join(parts), stack(x))
    noise = SplitLikelihood(parts=(Gaussian(sigma=0.1), Gaussian(sigma=0.4)), sizes=stack.sizes)
    problem = Problem(stack, noise, stack(x))
    one = sum(
        Problem(op, Gaussian(sigma=s), p).nll(0 * x)
        for op, s, p in zip(stack.operators, (0.1, 0.4), parts, strict=True)
    )
    torch.testing.assert_close(problem.nll(0 * x), one)


def test_stack_refuses_mixed_dtypes():
    real, complex_ = Identity(shape=(1, 4, 6)), HalfSpectrum(shape=(1, 4, 6))
    with pytest.raises(ShapeError, match="same dtype"):
        Stack(operators=(real, complex_))


def test_prox_of_a_non_linear_operator_says_what_to_use_instead():
    op = Saturation.example()
    problem = Problem(op, Gaussian(sigma=0.1), torch.zeros(1, *op.out_shape))
    with pytest.raises(CapabilityError, match="gradient solver"):
        problem.prox(torch.zeros(1, *op.in_shape), 1.0)
