"""Unrolled posterior denoisers: exactness, invariances, derivatives, and what they refuse."""

import pytest
import torch

from pnpkit import registry
from pnpkit.errors import CapabilityError, ConvergenceWarning, ShapeError
from pnpkit.likelihoods import Gaussian, Poisson
from pnpkit.operators import MRI, Blur, Inpainting, PhaseRetrieval, SuperResolution
from pnpkit.operators.base import LinearOperator
from pnpkit.priors import GaussianMixture, Unfolded
from pnpkit.priors.networks.unet import UNet
from pnpkit.priors.unfolding.data_steps import Prox
from pnpkit.priors.unfolding.network import UnfoldingNetwork
from pnpkit.priors.unfolding.stages import DataStep
from pnpkit.problem import Problem, ProblemGroup
from pnpkit.testing.problems import IsotropicGaussian


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def network(channels: int = 1, complex: bool = False, **options) -> UnfoldingNetwork:
    """A small one with random weights in every place that begins at zero."""
    torch.manual_seed(0)
    unet = {"channels": channels, "widths": (8, 12), "blocks": 1}
    unet |= {"conditions": channels} if options.get("sees_change") else {}
    model = UnfoldingNetwork(unet, 0.4, 0.25, complex=complex, **options)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1)
    return model.eval()


def blur_problem(n: int = 3, size: tuple[int, int] = (12, 10), sigma: float = 0.05, c: float = 1.0) -> Problem:
    kernel = randn(n, 1, 3, 3, seed=1).softmax(-1) / 3
    operator = c * Blur(kernel=kernel, shape=(1, *size)) if c != 1 else Blur(kernel=kernel, shape=(1, *size))
    x = randn(n, 1, *size, seed=2)
    return Problem(operator, Gaussian(sigma=c * sigma), operator(x) + c * sigma * randn(n, 1, *size, seed=3))


# --- the scheme ---


def sixteen() -> tuple[GaussianMixture, Problem, torch.Tensor]:
    """The note's problem: a mixture of five in 16 dimensions, 6 coordinates observed at 0.05, 40 draws."""
    rng = torch.Generator().manual_seed(5)
    means = 1.5 * torch.randn(5, 1, 4, 4, generator=rng, dtype=torch.float64)
    roots = torch.randn(5, 16, 16, generator=rng, dtype=torch.float64) / 4
    prior = GaussianMixture(means=means, covariances=roots @ roots.mT * 0.5)
    mask = torch.zeros(16, dtype=torch.float64)
    mask[torch.randperm(16, generator=rng)[:6]] = 1
    which = torch.randint(5, (40,), generator=rng)
    x = (
        means[which].flatten(1)
        + (0.5**0.5 * roots[which] @ torch.randn(40, 16, 1, generator=rng, dtype=torch.float64))[..., 0]
    )
    x = x.reshape(40, 1, 4, 4)
    operator = Inpainting(mask=mask.reshape(1, 4, 4))
    noise = torch.randn(x.shape, generator=rng, dtype=torch.float64)
    return prior, Problem(operator, Gaussian(sigma=0.05).to(torch.float64), operator(x + 0.05 * noise)), x


def exact_mean(prior: GaussianMixture, problem: Problem, x: torch.Tensor, sigma: float) -> torch.Tensor:
    """E[x0 | x_t, y] of a mixture: x_t is a second measurement, of the identity."""
    a = torch.diag(problem.operator.mask.flatten())
    precision = a / 0.05**2 + torch.eye(16, dtype=torch.float64) / sigma**2
    right = problem.y.flatten(1) @ a / 0.05**2 + x.flatten(1) / sigma**2
    centre, spread = right @ torch.linalg.inv(precision), torch.linalg.inv(precision)
    logs, means = [], []
    for k in range(5):
        total = prior.covariances[k] + spread
        gap = centre - prior.means[k].flatten()
        solved = torch.linalg.solve(total, gap.T).T
        logs.append(-0.5 * (gap * solved).sum(1) - 0.5 * torch.logdet(total) + prior.weights[k].log())
        means.append(centre - solved @ spread)
    return (torch.stack(logs, 1).softmax(1)[..., None] * torch.stack(means, 1)).sum(1).reshape(x.shape)


@pytest.mark.parametrize("sigma", [0.1, 0.3, 1.0, 3.0])
def test_a_few_stages_with_the_dual_variable_are_nearly_exact_and_without_it_biased(sigma):
    """The method note's table: squared error relative to ignoring y, best of three levels."""
    prior, problem, x = sixteen()
    noisy = x + sigma * randn(*x.shape, seed=9, dtype=torch.float64)
    wanted = exact_mean(prior, problem, noisy, sigma)
    ignored = (prior(noisy, sigma) - wanted).square().sum()

    def error(n_stages: int, keep: float) -> float:
        estimates = [
            Unfolded(denoiser=prior, n_stages=n_stages, level=level, keep=keep)(noisy, sigma, problem)
            for level in (0.1, 0.2, 0.4, 0.8)
        ]
        return min(float((e - wanted).square().sum() / ignored) for e in estimates)

    assert error(10, 1.0) < 0.08
    assert error(3, 1.0) < 0.75 * error(3, 0.0)
    assert error(10, 1.0) < 0.5 * error(10, 0.0)


@pytest.mark.parametrize("data_step", ["prox", "gradient"])
def test_gaussian_images_give_the_exact_posterior_mean_with_either_data_step(data_step: DataStep):
    prior = IsotropicGaussian(mean=0.3, std=0.5).double()
    problem = blur_problem().at()
    problem = Problem(problem.operator.double(), Gaussian(sigma=0.2).to(torch.float64), problem.y.double())
    x, sigma = randn(3, 1, 12, 10, dtype=torch.float64), 0.7
    wanted = problem.prox((0.3 / 0.25 + x / 0.49) / (1 / 0.25 + 1 / 0.49), 1 / (1 / 0.25 + 1 / 0.49))
    # A gradient step knows no penalty: its fixed point is the minimiser where the level is that of its own step.
    lipschitz = float(problem.lipschitz[0] + sigma**-2)
    level = 0.3 if data_step == "prox" else lipschitz**-0.5
    found = Unfolded(
        denoiser=prior, n_stages=300, level=level, data_step=data_step, keep=1.0 if data_step == "prox" else 0.0
    )(x, sigma, problem)
    assert torch.allclose(found, wanted, atol=1e-6)


# --- the network ---


@pytest.mark.parametrize("data_step", ["prox", "gradient"])
def test_scaling_operator_data_and_noise_changes_nothing(data_step: DataStep):
    model, x = network(data_step=data_step), randn(3, 1, 12, 10, seed=4)
    sigma = torch.tensor([0.05, 0.5, 5.0])
    with torch.no_grad():
        one, other = (model(x, sigma, blur_problem(c=c))[-1] for c in (1.0, 250.0))
    assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)


def test_new_networks_begin_as_plain_admm_around_their_denoiser():
    torch.manual_seed(0)
    unet = UNet(1, (8, 12), 1)
    torch.nn.init.normal_(unet.tail.weight, std=0.1)
    model = UnfoldingNetwork(unet.config, 0.4, 0.25, stages=4)
    model.blocks[0].network.load_state_dict(unet.state_dict())
    problem, x, sigma = blur_problem(), randn(3, 1, 12, 10), torch.tensor([0.1, 1.0, 10.0])
    with torch.no_grad():
        found = model(x, sigma, problem)
        stages = model.controls(torch.zeros(3, 2), sigma, problem.noise_level)
        x0, u = torch.full_like(x, 0.4), torch.zeros_like(x)
        for stage, estimate in zip(stages, found, strict=True):
            weight = stage.level**-2
            total = weight + sigma**-2
            centre = (x * (sigma**-2 / total)[:, None, None, None]) + (x0 - u) * (weight / total)[:, None, None, None]
            v = problem.prox(centre, 1 / total)
            x0 = model.blocks[0](v + u, stage.level)
            u = u + v - x0
            assert torch.allclose(x0, estimate, atol=1e-5)
    levels = torch.stack([s.level for s in stages])
    assert bool((levels.diff(dim=0) < 0).all())


def test_a_group_of_problems_is_its_parts_side_by_side():
    model, x, sigma = network(), randn(5, 1, 12, 8, seed=6), torch.tensor([0.1, 0.4, 0.2, 3.0, 0.05])
    first = blur_problem(3, (12, 8))
    operator = SuperResolution(kernel=torch.ones(1, 3, 3) / 9, factor=2, shape=(1, 12, 8))
    second = Problem(operator, Gaussian(sigma=0.1), randn(2, 1, 6, 4))
    with torch.no_grad():
        together = model(x, sigma, ProblemGroup([first, second]))[-1]
        apart = torch.cat([model(x[:3], sigma[:3], first)[-1], model(x[3:], sigma[3:], second)[-1]])
    assert torch.allclose(together, apart, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{"shared": False}, {"dual": False}, {"stages": 1}, {"anchor": False}, {"sees_change": True}]
)
def test_variants_run(options):
    model, x = network(**options), randn(3, 1, 12, 10)
    estimates = model(x, torch.tensor([0.1, 0.5, 2.0]), blur_problem())
    assert len(estimates) == options.get("stages", 3) and all(e.shape == x.shape for e in estimates)
    if options.get("anchor") is False:
        other = model(x + 1, torch.tensor([0.1, 0.5, 2.0]), blur_problem())
        assert torch.equal(estimates[-1], other[-1])


def test_sides_that_are_no_multiples_are_extended_for_the_network_alone():
    """Pixels farther from the added ones than the network reaches are as in an image that was wider by itself."""
    model, problem = network(stages=1), blur_problem(1, (40, 40))
    narrow = Problem(Inpainting(mask=torch.ones(1, 1, 40, 39)), Gaussian(sigma=0.05), problem.y[..., :39])
    wide = Problem(Inpainting(mask=torch.ones(1, 1, 40, 40)), Gaussian(sigma=0.05), problem.y)
    x, sigma = randn(1, 1, 40, 40), torch.tensor([0.5])
    with torch.no_grad():
        a, b = model(x[..., :39], sigma, narrow)[-1], model(x, sigma, wide)[-1]
    assert a.shape == (1, 1, 40, 39)
    assert torch.allclose(a[..., :14], b[..., :14], atol=1e-6)


# --- derivatives ---


def cg_problem() -> Problem:
    maps = torch.complex(randn(2, 4, 3, 6, 5, seed=1)[0], randn(2, 4, 3, 6, 5, seed=1)[1])[:2].to(torch.complex128)
    operator = MRI(mask=(randn(1, 6, 5, seed=2) > 0).double(), maps=maps).with_cg(tol=1e-12, max_iter=200)
    y = operator(torch.complex(randn(2, 1, 6, 5, seed=3), randn(2, 1, 6, 5, seed=4)).to(torch.complex128))
    return Problem(operator, Gaussian(sigma=0.3).to(torch.float64), y)


def test_derivatives_of_the_data_step_are_those_of_finite_differences():
    problem = cg_problem()
    z = torch.complex(randn(2, 1, 6, 5, seed=5), randn(2, 1, 6, 5, seed=6)).to(torch.complex128).requires_grad_()
    tau = torch.tensor([0.3, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z, t: Prox.apply(z, t, problem), (z, tau), eps=1e-4, atol=1e-5)


def test_the_data_step_works_inside_torch_func():
    problem = cg_problem()
    z = torch.complex(randn(2, 1, 6, 5, seed=5), randn(2, 1, 6, 5, seed=6)).to(torch.complex128)
    tau = torch.full((2,), 0.7, dtype=torch.float64)
    _, back = torch.func.vjp(lambda z: Prox.apply(z, tau, problem), z)
    assert torch.allclose(back(z)[0], problem.homogeneous.prox(z, tau), atol=1e-10)


def test_gradients_reach_the_operators_parameter():
    model = network()
    problem = blur_problem()
    kernel = problem.operator.kernel.clone().requires_grad_()
    out = model(randn(3, 1, 12, 10), torch.tensor([0.1, 0.5, 2.0]), problem.at(kernel=kernel))[-1]
    (slope,) = torch.autograd.grad(out.square().sum(), kernel)
    assert bool((slope.abs().flatten(1).amax(1) > 0).all())


# --- refusals ---


def posterior(shape: tuple[int, ...] = (1, 12, 10)) -> Unfolded:
    n = 120
    return Unfolded(denoiser=GaussianMixture(means=torch.zeros(1, *shape), covariances=torch.eye(n)[None]), n_stages=2)


def test_a_nonlinear_operator_is_refused():
    operator = PhaseRetrieval.example()
    x = randn(2, *operator.in_shape).to(operator.in_dtype)
    problem = Problem(operator, Gaussian(sigma=0.1), operator(x))
    with pytest.raises((CapabilityError, ShapeError), match=r"linear operator|does not fit"):
        posterior()(x, 0.1, problem)
    with pytest.raises(CapabilityError, match="linear operator and Gaussian noise"):
        network(complex=operator.in_dtype.is_complex)(x, torch.tensor([0.1, 0.2]), problem)


def test_counts_are_refused():
    problem = Problem(Inpainting(mask=torch.ones(1, 12, 10)), Poisson(), torch.ones(2, 1, 12, 10))
    with pytest.raises(CapabilityError, match="Gaussian noise of known sigma"):
        posterior()(torch.ones(2, 1, 12, 10), 0.1, problem)


def test_a_complex_problem_with_a_real_model_is_refused():
    problem = Problem(
        MRI(mask=torch.ones(1, 12, 10)), Gaussian(sigma=0.1), torch.zeros(1, 1, 12, 10, dtype=torch.complex64)
    )
    with pytest.raises(ShapeError, match=r"float32 images, these are torch\.complex64"):
        posterior().given(problem)


def test_another_number_of_images_than_measurements_is_refused():
    with pytest.raises(ShapeError, match=r"2 images for a problem of 3"):
        posterior()(randn(2, 1, 12, 10), 0.1, blur_problem())


def test_a_data_step_that_does_not_converge_is_told():
    problem = cg_problem()
    hard = Problem(problem.operator.with_cg(tol=1e-12, max_iter=1), problem.likelihood, problem.y)
    with pytest.warns(ConvergenceWarning, match="prox"):
        network(2, True).double()(torch.zeros(2, 1, 6, 5, dtype=torch.complex128), torch.ones(2).double(), hard)


@pytest.mark.parametrize("name", registry.names("operators"))
def test_every_linear_operator_of_the_registry_can_be_put_in(name):
    operator = registry.get("operators", name).example().float()
    if not isinstance(operator, LinearOperator) or len(operator.in_shape) != 3:
        pytest.skip("not linear, or not on images (C, H, W)")
    n = operator.batch or 2
    complex = operator.in_dtype.is_complex
    x = torch.zeros(n, *operator.in_shape, dtype=operator.in_dtype) + randn(n, *operator.in_shape)
    problem = Problem(operator, Gaussian(sigma=0.1 * float(operator.norm().max())), operator(x))
    model = network(operator.in_shape[0] * (2 if complex else 1), complex)
    with torch.no_grad():
        found = model(x, torch.full((n,), 0.5), problem)[-1]
    assert found.shape == x.shape and found.dtype == x.dtype and bool(torch.isfinite(found.abs()).all())
