"""Unconditional samples of a known mixture have its moments and modes, by every method."""

import pytest
import torch

from pnpkit.errors import CapabilityError, SpecError
from pnpkit.priors import ComplexAsReal, GaussianMixture
from pnpkit.sampling import sample


def mixture() -> GaussianMixture:
    """Two pixels, two modes of weights 0.25 and 0.75, correlated inside the modes."""
    cross = torch.tensor([[0.05, 0.03], [0.03, 0.05]])
    means = torch.tensor([[-1.0, 0.5], [1.0, -0.5]]).reshape(2, 1, 1, 2)
    return GaussianMixture(
        means=means, covariances=torch.stack([cross, cross * (2 * torch.eye(2) - 1)]), weights=torch.tensor([1.0, 3.0])
    )


@pytest.mark.parametrize(
    ("method", "n_steps", "calls"),
    [("heun", 30, 59), ("ddim", 200, 200), ("ancestral", 200, 200), ("langevin", 150, 751)],
)
def test_moments_modes_and_calls(method, n_steps, calls):
    prior = mixture()
    drawn = sample(prior, (1, 1, 2), 20_000, method, n_steps, seed=1, sigma_max=30.0, sigma_min=0.01)
    assert drawn.calls == calls and drawn.x.shape == (20_000, 1, 1, 2)
    flat, (mean, covariance) = drawn.x.flatten(1), prior.moments()
    assert float((flat.mean(0) - mean.flatten()).abs().max()) < 0.04
    assert float((flat.T.cov() - covariance).abs().max()) < 0.05
    assert float((flat[:, 0] < 0).float().mean()) == pytest.approx(0.25, abs=0.02)


def test_a_seed_decides_and_the_global_generator_does_not():
    before = torch.get_rng_state()
    a, b, c = (sample(mixture(), (1, 1, 2), 3, seed=s, sigma_max=30.0).x for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c) and torch.equal(torch.get_rng_state(), before)


def test_complex_images_start_with_sigma_in_each_part():
    means = torch.zeros(1, 2, 2, 3)
    prior = ComplexAsReal(denoiser=GaussianMixture(means=means, covariances=torch.eye(12)[None] * 4))
    x = sample(prior, (1, 2, 3), 4000, "ddim", 60, sigma_max=100.0).x
    assert x.dtype == torch.complex64 and float(x.real.std()) == pytest.approx(2, rel=0.05)


def test_bad_requests():
    with pytest.raises(SpecError, match="Did you mean 'heun'"):
        sample(mixture(), (1, 1, 2), method="heunn")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="n_steps"):
        sample(mixture(), (1, 1, 2), n_steps=1)
    with pytest.raises(CapabilityError, match="works on images"):
        sample(mixture(), (1, 4, 4))
    with pytest.raises(CapabilityError, match="must lie in"):
        sample(mixture(), (1, 1, 2), sigma_min=2.0, sigma_max=1.0)
