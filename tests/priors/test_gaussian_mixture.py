"""The exact prior, against quadrature, Monte Carlo and linear algebra."""

import pytest
import torch

from pnpkit.errors import CapabilityError, ShapeError, SpecError
from pnpkit.likelihoods import Gaussian
from pnpkit.operators import Identity, Inpainting
from pnpkit.priors import GaussianMixture
from pnpkit.problem import Problem


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def two_modes() -> GaussianMixture:
    """One pixel: 0.3·N(−1, 0.04) + 0.7·N(2, 0.25)."""
    return GaussianMixture(
        means=torch.tensor([-1.0, 2.0]).reshape(2, 1, 1, 1).double(),
        covariances=torch.tensor([0.04, 0.25]).reshape(2, 1, 1).double(),
        weights=torch.tensor([3.0, 7.0]),
    )


def correlated() -> GaussianMixture:
    root = torch.randn(3, 6, 6, generator=rng(1), dtype=torch.float64) / 2
    return GaussianMixture(
        means=torch.randn(3, 1, 2, 3, generator=rng(2), dtype=torch.float64),
        covariances=root @ root.mT,
        weights=torch.tensor([0.5, 0.2, 0.3]),
    )


def grid_density(prior: GaussianMixture, x0: torch.Tensor) -> torch.Tensor:
    w, m, v = prior.weights, prior.means.flatten(), prior.covariances.flatten()
    return (w * torch.exp(-((x0[:, None] - m) ** 2) / (2 * v)) / (2 * torch.pi * v).sqrt()).sum(1)


@pytest.mark.parametrize("sigma", [0.05, 0.5, 3.0])
def test_denoiser_and_density_by_quadrature(sigma):
    prior, x0 = two_modes(), torch.linspace(-8, 10, 40001, dtype=torch.float64)
    for x in (-1.3, 0.2, 0.9, 2.5):
        joint = grid_density(prior, x0) * torch.exp(-((x - x0) ** 2) / (2 * sigma**2)) / (2 * torch.pi) ** 0.5 / sigma
        p, mean = torch.trapezoid(joint, x0), torch.trapezoid(joint * x0, x0)
        image = torch.full((1, 1, 1, 1), x, dtype=torch.float64)
        assert float(prior(image, sigma)) == pytest.approx(float(mean / p), rel=1e-6)
        assert float(prior.log_density(image, sigma)) == pytest.approx(float(p.log()), rel=1e-6, abs=1e-8)


def test_score_is_the_gradient_of_the_density():
    prior = correlated()
    x = torch.randn(4, 1, 2, 3, generator=rng(3), dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(prior.log_density(x, 0.4).sum(), x)
    assert torch.allclose(prior.score(x, 0.4), gradient, atol=1e-9)


def test_samples_have_the_mixture_s_moments():
    prior = correlated()
    flat = prior.sample(200_000, rng(4)).flatten(1)
    mean, covariance = prior.moments()
    assert float((flat.mean(0) - mean.flatten()).abs().max()) < 0.02
    assert float((flat.T.cov() - covariance).abs().max()) < 0.05


def test_posterior_of_a_linear_problem_by_importance_weights():
    prior = correlated()
    mask = torch.tensor([[[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]]], dtype=torch.float64)
    operator, noise = Inpainting(mask=mask, shape=(1, 2, 3)).double(), Gaussian(sigma=1.0).double()
    y = noise.sample(operator(prior.sample(1, rng(5))), rng(6))
    problem = Problem(operator, noise, y)
    mean, covariance = prior.posterior(problem).moments()
    x = prior.sample(400_000, rng(7))
    weight = torch.cat([-noise.nll(operator(part), y) for part in x.split(50_000)]).softmax(0)
    assert float(1 / weight.square().sum()) > 5_000  # effective samples
    flat = x.flatten(1)
    estimate = weight @ flat
    away = flat - estimate
    assert float((estimate - mean.flatten()).abs().max()) < 0.02
    assert float(((weight[:, None] * away).T @ away - covariance).abs().max()) < 0.03 * float(covariance.abs().max())


def test_posterior_under_weak_noise_is_the_truth_and_under_strong_noise_the_prior():
    prior = correlated()
    x = prior.sample(1, rng(8))
    sharp = prior.posterior(Problem(Identity(shape=(1, 2, 3)).double(), Gaussian(sigma=1e-4).double(), x)).moments()
    assert torch.allclose(sharp[0], x[0], atol=1e-3)
    vague = prior.posterior(Problem(Identity(shape=(1, 2, 3)).double(), Gaussian(sigma=1e4).double(), x)).moments()
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(vague, prior.moments(), strict=True))


def test_posterior_wants_one_real_gaussian_measurement():
    prior = correlated()
    y = torch.zeros(2, 1, 2, 3, dtype=torch.float64)
    with pytest.raises(CapabilityError, match="2 samples"):
        prior.posterior(Problem(Identity(shape=(1, 2, 3)).double(), Gaussian(sigma=1.0).double(), y))


def test_bad_mixtures():
    means, eye = torch.zeros(2, 1, 2, 2), torch.eye(4).expand(2, 4, 4)
    with pytest.raises(ShapeError, match=r"expected \(2, 4, 4\)"):
        GaussianMixture(means=means, covariances=torch.eye(3).expand(2, 3, 3))
    with pytest.raises(SpecError, match="weights"):
        GaussianMixture(means=means, covariances=eye, weights=torch.tensor([1.0, -1.0]))
    with pytest.raises(SpecError, match="negative eigenvalue"):
        GaussianMixture(means=means, covariances=-eye)
    with pytest.raises(SpecError, match="not symmetric"):
        GaussianMixture(means=means, covariances=eye + torch.triu(torch.ones(4, 4), 1))
