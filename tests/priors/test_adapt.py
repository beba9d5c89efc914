"""Networks of other conventions: on Gaussian data each gives the Wiener estimate, and all the same one."""

import pytest
import torch

from pnpkit.errors import CapabilityError, ShapeError, SpecError
from pnpkit.priors import GaussianMixture, Rescale
from pnpkit.priors.adapt import from_edm, from_eps, from_v, from_ve, from_vp
from pnpkit.priors.base import Domain
from pnpkit.processes import VP, edm_sigmas

PRIOR = GaussianMixture.example().double()
DOMAIN = Domain(PRIOR.domain.shape, torch.float64, (1e-3, 1e3))
PATHS = {"linear": VP.linear(), "cosine": VP.cosine(), "table": VP.from_betas(torch.linspace(1e-4, 0.05, 300))}
SIGMAS = [0.05, 0.2, 1.0, 3.0, 8.0]


def images(n: int = 3) -> torch.Tensor:
    return torch.rand(n, *PRIOR.example_shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def ve_score(x, sigma):
    return PRIOR.score(x, sigma)


def vp_network(path: VP, output: str):
    """What a perfect network of this convention returns for z = c·x at time t."""

    def network(z, t):
        sigma = path.sigma(t)[:, None, None, None]
        c = (1 + sigma**2).rsqrt()
        clean = PRIOR(z / c, sigma.flatten())
        eps = (z / c - clean) / sigma
        return {"eps": eps, "score": -eps / (c * sigma), "x0": clean, "v": c * eps - c * sigma * clean}[output]

    return network


def wiener(x, sigma):
    mean, covariance = PRIOR.gaussian_model()
    gain = torch.linalg.solve(covariance + sigma**2 * torch.eye(len(covariance), dtype=torch.float64), covariance)
    return mean + ((x - mean).flatten(1) @ gain).reshape(x.shape)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_ve_and_edm_networks_give_the_wiener_estimate(sigma):
    x = images()
    for denoiser in (from_ve(ve_score, DOMAIN), from_edm(lambda x, s: PRIOR(x, s), DOMAIN)):
        assert torch.allclose(denoiser(x, sigma), wiener(x, sigma), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("output", ["eps", "score", "x0", "v"])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_vp_networks_give_the_wiener_estimate(path, output, sigma):
    """The missing (1 − c)·x of the score-PnP code would leave 11% of the image out at sigma = 0.5."""
    x = images()
    denoiser = from_vp(vp_network(PATHS[path], output), DOMAIN, PATHS[path], output)
    assert torch.allclose(denoiser(x, sigma), wiener(x, sigma), rtol=1e-5, atol=1e-6)


def test_one_network_as_ve_and_as_vp_is_one_denoiser():
    x, sigma = images(), torch.tensor([0.1, 0.7, 5.0], dtype=torch.float64)
    ve = from_ve(ve_score, DOMAIN)(x, sigma)
    for make, output in ((from_eps, "eps"), (from_v, "v")):
        assert torch.allclose(make(vp_network(PATHS["linear"], output), DOMAIN)(x, sigma), ve, rtol=1e-5, atol=1e-6)


def test_the_half_that_predicts_variances_is_dropped():
    network = vp_network(PATHS["linear"], "eps")
    both = from_eps(lambda z, t: torch.cat([network(z, t), torch.full_like(z, 9.0)], 1), DOMAIN)
    assert torch.equal(both(images(), 0.5), from_eps(network, DOMAIN)(images(), 0.5))
    with pytest.raises(ShapeError, match="network gave"):
        from_eps(lambda z, t: z[..., :2], DOMAIN)(images(), 0.5)


def test_a_network_of_images_in_minus_one_to_one_is_rescaled_in_sigma_too():
    """D(x; s) = (D'(2x − 1; 2s) + 1)/2; the published code forgets it."""
    other = GaussianMixture(means=2 * PRIOR.means - 1, covariances=4 * PRIOR.covariances).double()
    for sigma in SIGMAS:
        assert torch.allclose(Rescale(denoiser=other)(images(), sigma), PRIOR(images(), sigma), rtol=1e-6)


@pytest.mark.parametrize("path", PATHS)
def test_time_and_sigma_are_inverse(path):
    vp = PATHS[path]
    low, high = vp.sigma_range
    sigma = torch.logspace(0, 1, 50, base=high / low, dtype=torch.float64) * low
    assert torch.allclose(vp.sigma(vp.time(sigma)), sigma, rtol=1e-9)
    t = torch.tensor([0.0, 0.25, 7.0, len(vp.log_sigma) - 1.0], dtype=torch.float64)
    assert torch.allclose(vp.time(vp.sigma(t)), t, atol=1e-6)


def test_the_linear_path_starts_at_one_hundredth_and_says_so():
    vp = VP.linear()
    assert vp.sigma_range == pytest.approx((0.0100005, 157.4), rel=1e-3)
    denoiser = from_eps(vp_network(vp, "eps"), DOMAIN)
    assert denoiser.domain.sigma_range == vp.sigma_range
    with pytest.raises(CapabilityError, match="outside the range"):
        denoiser(images(), 0.005)
    with pytest.raises(CapabilityError, match="outside what the path reaches"):
        vp.time(torch.tensor([0.005]))


@pytest.mark.parametrize("betas", [[0.1], [0.1, 1.5], [0.0, 0.1]])
def test_wrong_betas(betas):
    with pytest.raises(SpecError, match="betas"):
        VP.from_betas(torch.tensor(betas))


def test_unknown_output():
    with pytest.raises(SpecError, match="'eps'"):
        from_vp(lambda z, t: z, DOMAIN, output="noise")  # type: ignore[arg-type]


def test_edm_levels():
    """Five levels from 80 to 0.002 with rho = 7, by hand, then zero."""
    levels = edm_sigmas(5, 0.002, 80.0)
    wanted = [(80 ** (1 / 7) + i / 4 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(5)]
    assert levels.tolist() == pytest.approx([*wanted, 0.0])
    with pytest.raises(SpecError, match="low"):
        edm_sigmas(5, 1.0, 0.5)
