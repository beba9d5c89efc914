"""The suite with known posteriors: its data, its prior and its exact answer belong together."""

import numpy as np
import torch

from pnpkit import make, registry
from pnpkit.bench.exact import posterior_mean
from pnpkit.training.sources import GaussianField

PRIOR = {
    "name": "gaussian_mixture",
    "means": {"make": "flat_mean", "size": 6, "value": 0.4},
    "covariances": {"make": "exponential_covariance", "size": 6, "std": 0.3, "length": 2.0},
}
NOISE = {"name": "gaussian", "sigma": 0.1}


def test_draws_have_the_moments_of_the_prior():
    source = GaussianField(count=20000, size=4, mean=0.4, std=0.3, length=2.0)
    draws = np.stack(source.arrays(1, True)[0]).reshape(20000, -1)
    wanted = make("exponential_covariance", size=4, std=0.3, length=2.0)[0].numpy()
    assert np.abs(draws.mean(0) - 0.4).max() < 0.01
    assert np.abs(np.cov(draws.T) - wanted).max() < 0.004
    assert np.isclose(wanted[0, 5], 0.09 * np.exp(-(2**0.5) / 2), atol=1e-6)


def test_exact_mean_is_the_conditional_mean():
    operator = {"name": "inpainting", "mask": {"make": "random_mask", "shape": [1, 6, 6], "fraction": 0.5, "seed": 0}}
    y = torch.rand(1, 6, 6, generator=torch.Generator().manual_seed(0))
    mask = registry.build("operators", operator).mask.flatten().double()
    covariance = make("exponential_covariance", size=6, std=0.3, length=2.0)[0].double()
    a = torch.diag(mask)
    gain = covariance @ a @ torch.linalg.inv(a @ covariance @ a + 0.01 * torch.eye(36, dtype=torch.float64))
    wanted = 0.4 + gain @ ((mask * y.flatten().double()) - a @ torch.full((36,), 0.4, dtype=torch.float64))
    found = posterior_mean(operator, NOISE, PRIOR)((mask.float().reshape(1, 6, 6) * y).numpy())
    assert np.abs(found.ravel() - wanted.numpy()).max() < 1e-4


def test_samples_scatter_around_the_exact_mean():
    """PnP-DM is exact for an exact prior: the mean of 64 draws is near the exact mean."""
    from pnpkit import compose

    operator = {"name": "blur", "kernel": {"make": "gaussian_kernel", "size": 3, "std": 0.8}, "shape": [1, 6, 6]}
    built = registry.build("operators", operator)
    x = torch.from_numpy(GaussianField(count=1, size=6, mean=0.4, std=0.3, length=2.0).arrays(1, True)[0][0])
    y = built(x[None])[0] + 0.1 * torch.randn(1, 6, 6, generator=torch.Generator().manual_seed(1))
    exact = posterior_mean(operator, NOISE, PRIOR)(y.numpy())
    result = compose(operator=operator, prior=PRIOR, solver="pnp_dm", noise=NOISE)(y, chains=64)
    assert float((result.x - torch.from_numpy(exact)).abs().mean()) < 0.1 * float(np.abs(exact - 0.4).mean())
