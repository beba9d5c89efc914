"""Noise models against torch.distributions and SciPy, real and complex, and their bad input."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from pnpkit.errors import CapabilityError, DataError, ShapeError, SpecError
from pnpkit.likelihoods import Gaussian, Poisson, SplitLikelihood, Transmission, randn_like
from pnpkit.likelihoods.transmission import lambert_of_exp

F64 = torch.float64
N = 40_000


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, dtype=F64, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=rng(seed))


def gradient(likelihood, z, y):
    leaf = z.clone().requires_grad_()
    (g,) = torch.autograd.grad(likelihood.nll(leaf, y).sum(), leaf)
    return g


# --- Gaussian ---


@pytest.mark.parametrize(
    "sigma",
    [0.3, torch.tensor([0.1, 0.5, 2.0]), torch.rand(1, 2, 4) + 0.1, torch.rand(3, 2, 4) + 0.1],
    ids=["number", "per sample", "per element", "per sample and element"],
)
def test_gaussian_nll_is_that_of_torch_distributions(sigma):
    likelihood = Gaussian(sigma=sigma).to(F64)
    z, other, y = randn(3, 2, 4, seed=1), randn(3, 2, 4, seed=2), randn(3, 2, 4, seed=3)
    std = likelihood.std(z).expand(z.shape)
    wanted = [-torch.distributions.Normal(m, std).log_prob(y).flatten(1).sum(1) for m in (z, other)]
    torch.testing.assert_close(likelihood.nll(z, y) - likelihood.nll(other, y), wanted[0] - wanted[1])
    torch.testing.assert_close(likelihood.grad(z, y), gradient(likelihood, z, y))
    likelihood.check(y, (2, 4))


def test_gaussian_of_complex_data_counts_both_components():
    likelihood = Gaussian(sigma=0.3).to(F64)
    z, y = randn(2, 5, dtype=torch.complex128, seed=1), randn(2, 5, dtype=torch.complex128, seed=2)
    apart = sum(likelihood.nll(getattr(z, part), getattr(y, part)) for part in ("real", "imag"))
    torch.testing.assert_close(likelihood.nll(z, y), apart)
    torch.testing.assert_close(likelihood.grad(z, y), gradient(likelihood, z, y))


def test_gaussian_noise_has_the_std_it_says_in_every_real_component():
    sigma = torch.tensor([0.5, 3.0])
    noise = Gaussian(sigma=sigma).sample(torch.zeros(2, N, dtype=torch.complex64), rng(1))
    for i in range(2):
        for part in (noise[i].real, noise[i].imag):
            assert float(part.std()) == pytest.approx(float(sigma[i]), rel=5 / math.sqrt(2 * N))
            assert abs(float(part.mean())) < 5 * float(sigma[i]) / math.sqrt(N)
            assert scipy.stats.kstest(part.numpy() / float(sigma[i]), "norm").pvalue > 1e-4
        correlation = np.corrcoef(noise[i].real.numpy(), noise[i].imag.numpy())[0, 1]
        assert abs(correlation) < 5 / math.sqrt(N)
    assert float(noise[0].abs().square().mean()) == pytest.approx(2 * 0.25, rel=0.03)


def test_gaussian_sigma_per_element_is_the_std_of_that_element():
    sigma = torch.tensor([[[0.1, 1.0], [2.0, 5.0]]])
    noise = Gaussian(sigma=sigma).sample(torch.zeros(N, 2, 2), rng(2))
    torch.testing.assert_close(noise.std(0), sigma[0], rtol=0.03, atol=0)


@pytest.mark.parametrize(
    "bad", [0.0, -0.1, float("nan"), float("inf"), torch.tensor([0.1, 0.0]), torch.tensor([0.1j])], ids=str
)
def test_gaussian_refuses_impossible_sigma(bad):
    with pytest.raises(SpecError, match="sigma must be real, finite and > 0"):
        Gaussian(sigma=bad)


@pytest.mark.parametrize("shape", [(2,), (4,), (2, 4), (2, 2, 4), (3, 2, 5), (3, 1, 1), (1, 1, 2, 4)], ids=str)
def test_gaussian_refuses_a_sigma_that_does_not_fit(shape):
    """(2, 4) looks like per element, but the leading axis is always the batch: it must not broadcast."""
    with pytest.raises(ShapeError, match=r"sigma has shape .*expected a number, \(3,\)"):
        Gaussian(sigma=torch.ones(shape)).check(torch.zeros(3, 2, 4), (2, 4))


def test_gaussian_index_repeat_and_rows():
    per = Gaussian(sigma=torch.tensor([0.1, 0.2, 0.3]))
    assert torch.equal(per.index(slice(1, 3)).sigma, torch.tensor([0.2, 0.3]))
    assert torch.equal(per.repeat(2).sigma, torch.tensor([0.1, 0.1, 0.2, 0.2, 0.3, 0.3]))
    one = Gaussian(sigma=torch.rand(1, 2, 4) + 0.1)
    assert one.index(slice(1, 3)) is one and one.repeat(5) is one
    rows = one.rows(torch.tensor([3, 1]), -1, (2, 4))
    assert torch.equal(rows.sigma, one.sigma[..., [3, 1]])


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
def test_moving_to_complex_keeps_noise_levels_real():
    assert Gaussian(sigma=0.1).to(torch.complex128).sigma.dtype == F64
    assert Gaussian(sigma=0.1).to(F64).sigma.dtype == F64


def test_gaussian_does_not_share_the_caller_s_tensor():
    sigma = torch.tensor([0.1, 0.2])
    likelihood = Gaussian(sigma=sigma)
    sigma.zero_()
    assert torch.equal(likelihood.sigma, torch.tensor([0.1, 0.2]))


# --- Poisson ---


@pytest.mark.parametrize("background", [0.0, 2.0, torch.rand(1, 4)], ids=["none", "number", "tensor"])
def test_poisson_nll_is_that_of_scipy(background):
    likelihood = Poisson(gain=30.0, background=background).to(F64)
    z, other = randn(2, 4, seed=1).abs(), randn(2, 4, seed=2).abs() + 0.1
    y = torch.poisson(30 * z, generator=rng(3))
    rate = [30 * m + likelihood.background for m in (z, other)]
    wanted = [-scipy.stats.poisson.logpmf(y.numpy(), r.numpy()).sum(1) for r in rate]
    difference = likelihood.nll(z, y) - likelihood.nll(other, y)
    np.testing.assert_allclose(difference.numpy(), wanted[0] - wanted[1], rtol=1e-9)
    torch.testing.assert_close(likelihood.grad(z, y), gradient(likelihood, z, y))


def test_poisson_counts_have_mean_and_variance_of_the_rate():
    z = torch.tensor([[0.0, 0.5, 20.0]])
    counts = Poisson(gain=10.0, background=1.5).sample(z.expand(N, 3), rng(4))
    rate = 10 * z[0] + 1.5
    assert torch.equal(counts, counts.round()) and float(counts.min()) >= 0
    torch.testing.assert_close(counts.mean(0), rate, rtol=0, atol=float(5 * (rate.max() / N) ** 0.5))
    torch.testing.assert_close(counts.var(0), rate, rtol=0.06, atol=0)


def test_poisson_at_zero_rate_is_exact_not_nan():
    likelihood = Poisson(gain=2.0)
    z = torch.tensor([[0.0, 1.0]])
    nothing, something = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 2.0]])
    assert float(likelihood.nll(z, nothing)) == pytest.approx(2 - 2 * math.log(2))
    assert torch.equal(likelihood.grad(z, nothing), torch.tensor([[2.0, 0.0]]))
    assert float(likelihood.nll(z, something)) == float("inf")
    assert float(likelihood.grad(z, something)[0, 0]) == -float("inf")


def test_poisson_below_zero_says_what_to_use():
    with pytest.raises(DataError, match=r"expected counts reach -2 < 0.*mlem"):
        Poisson(gain=2.0).nll(torch.tensor([[-1.0]]), torch.tensor([[1.0]]))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"gain": 0.0}, "gain"),
        ({"gain": float("inf")}, "gain"),
        ({"background": -1.0}, "background"),
        ({"background": torch.tensor([1.0, float("nan")])}, "background"),
    ],
    ids=str,
)
def test_poisson_refuses_impossible_parameters(parameters, message):
    with pytest.raises(SpecError, match=message):
        Poisson(**parameters)


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (torch.tensor([[-1.0, 2.0]]), DataError, "counts are ≥ 0, but y reaches -1"),
        (torch.tensor([[1j, 2]]), DataError, "given a complex y"),
        (torch.zeros(1, 3), ShapeError, "does not broadcast"),
    ],
    ids=["negative", "complex", "shape"],
)
def test_poisson_refuses_data_that_are_no_counts(y, error, message):
    with pytest.raises(error, match=message):
        Poisson(background=torch.ones(1, 2)).check(y, tuple(y.shape[1:]))


def test_poisson_in_other_units_keeps_the_counts():
    likelihood, z = Poisson(gain=4.0, background=1.0), torch.tensor([[0.5, 2.0]])
    y = likelihood.sample(z, rng(5))
    scaled = likelihood.scaled(100.0)
    assert torch.equal(likelihood.scaled_data(y, 100.0), y)
    torch.testing.assert_close(scaled.nll(100 * z, y), likelihood.nll(z, y))
    torch.testing.assert_close(100 * scaled.grad(100 * z, y), likelihood.grad(z, y))


# --- transmission ---


@pytest.mark.parametrize("background", [0.0, 3.0])
def test_transmission_nll_is_that_of_scipy(background):
    likelihood = Transmission(counts=200.0, gain=0.5, background=background).to(F64)
    z = torch.rand(2, 5, dtype=F64, generator=rng(2)) * 8
    rate = 200 * torch.exp(-0.5 * z) + background
    y = torch.poisson(rate, generator=rng(3))
    wanted = [-scipy.stats.poisson.logpmf(a.numpy(), r.numpy()).sum() for a, r in zip(y, rate, strict=True)]
    other = likelihood.nll(z + 1, y) - likelihood.nll(z, y)
    rate = 200 * torch.exp(-0.5 * (z + 1)) + background
    after = [-scipy.stats.poisson.logpmf(a.numpy(), r.numpy()).sum() for a, r in zip(y, rate, strict=True)]
    assert other.tolist() == pytest.approx([b - a for a, b in zip(wanted, after, strict=True)], rel=1e-9)


def test_lambert_s_function_over_all_magnitudes():
    u = torch.linspace(-90, 700, 2001, dtype=F64)
    wanted = scipy.special.lambertw(np.exp(u.numpy())).real
    np.testing.assert_allclose(lambert_of_exp(u).numpy(), wanted, rtol=1e-13)
    large = torch.tensor([1e4, 1e8], dtype=F64)
    assert torch.allclose(lambert_of_exp(large) + lambert_of_exp(large).log(), large)


@pytest.mark.parametrize("tau", [1e-8, 1e-3, 10.0])
def test_transmission_prox_is_the_minimiser(tau):
    likelihood = Transmission(counts=1e4, gain=2.0).to(F64)
    v = torch.linspace(-1, 6, 9, dtype=F64)[None]
    y = torch.poisson(torch.full((1, 9), 40.0, dtype=F64), generator=rng(0))
    z = likelihood.prox(v, y, torch.tensor([tau], dtype=F64))
    assert (z - v + tau * likelihood.grad(z, y)).abs().max() < 1e-8 * max(1, tau * 1e4)
    with pytest.raises(CapabilityError, match="no closed-form prox"):
        Transmission(background=1.0).prox(v, y, torch.tensor([tau]))


def test_transmission_inverts_and_keeps_counts_in_other_units():
    likelihood = Transmission(counts=1e4, gain=0.5, background=2.0)
    z = torch.tensor([[0.0, 3.0, 9.0]])
    assert torch.allclose(likelihood.invert(likelihood.rate(z)), z, atol=1e-4)
    dark = likelihood.invert(torch.tensor([[0.0, 2.0]]))
    assert torch.allclose(dark, torch.full((1, 2), 2 * np.log(2e4)), atol=1e-4)  # half a count
    y = torch.tensor([[9000.0, 2000.0, 100.0]])
    assert torch.equal(likelihood.scaled_data(y, 10.0), y)
    assert torch.allclose(likelihood.scaled(10.0).nll(10 * z, y), likelihood.nll(z, y))


def test_a_scan_in_few_photons_is_reconstructed_better_by_its_own_likelihood():
    """CT with 40 photons a ray and a thick disc: least squares on logarithms is biased where counts vanish."""
    import pnpkit as pk

    grid = torch.linspace(-1, 1, 32)
    disc = (grid[:, None] ** 2 + grid**2 < 0.6).float()[None] * 0.25
    ct = pk.operators.CT(angles=torch.arange(48) * torch.pi / 48, shape=(1, 32, 32), detectors=48)
    noise = pk.Transmission(counts=40.0)
    y = noise.sample(ct(disc[None]), rng(0))
    weighted = pk.Gaussian(y.clamp_min(0.5).rsqrt())
    results = {}
    for name, part, data in (("photons", noise, y), ("logarithms", weighted, noise.invert(y))):
        errors = []
        for weight in (3.0, 10.0, 30.0):
            parts = {"prior": {"name": "tv", "weight": weight}, "solver": {"name": "fista", "n_steps": 40}}
            errors.append(float((pk.compose(ct, **parts, noise=part)(data).x - disc).square().mean()))
        results[name] = min(errors)
    assert results["photons"] < 0.7 * results["logarithms"]


# --- parts ---


def test_split_is_the_sum_of_its_parts():
    parts = (Gaussian(sigma=0.5), Poisson(gain=20.0))
    split = SplitLikelihood(parts=parts, sizes=(3, 2))
    z, y = randn(4, 5, seed=1).abs().float(), randn(4, 5, seed=2).abs().round().float()
    torch.testing.assert_close(split.nll(z, y), parts[0].nll(z[:, :3], y[:, :3]) + parts[1].nll(z[:, 3:], y[:, 3:]))
    torch.testing.assert_close(split.grad(z, y), gradient(split, z, y))
    assert split.name == "split"
    sample = split.sample(torch.ones(N, 5), rng(6))
    torch.testing.assert_close(sample[:, :3].std(0), torch.full((3,), 0.5), rtol=0.03, atol=0)
    torch.testing.assert_close(sample[:, 3:].mean(0), torch.full((2,), 20.0), rtol=0.01, atol=0)


def test_split_of_gaussians_is_gaussian_with_sigma_per_element():
    split = SplitLikelihood(parts=(Gaussian(sigma=0.5), Gaussian(sigma=torch.tensor([1.0, 2.0]))), sizes=(2, 1))
    assert split.name == "gaussian"
    std = split.std(torch.zeros(2, 3))
    assert torch.equal(std, torch.tensor([[0.5, 0.5, 1.0], [0.5, 0.5, 2.0]]))
    assert torch.equal(split.index(slice(1, 2)).std(torch.zeros(1, 3)), std[1:])
    assert torch.equal(split.repeat(2).std(torch.zeros(4, 3)), std.repeat_interleave(2, 0))
    torch.testing.assert_close(split.scaled(3.0).std(torch.zeros(2, 3)), 3 * std)


def test_split_mixed_scales_each_part_in_its_way():
    split = SplitLikelihood(parts=(Gaussian(sigma=0.5), Poisson(gain=20.0)), sizes=(1, 1))
    assert torch.equal(split.scaled_data(torch.tensor([[1.0, 7.0]]), 10.0), torch.tensor([[10.0, 7.0]]))
    with pytest.raises(CapabilityError, match="all Gaussian"):
        split.std(torch.zeros(1, 2))


def test_split_refuses_sizes_that_do_not_fit():
    with pytest.raises(SpecError, match="2 parts for 1 sizes"):
        SplitLikelihood(parts=(Gaussian(sigma=0.5), Gaussian(sigma=0.5)), sizes=(2,))
    with pytest.raises(ShapeError, match="do not add up"):
        SplitLikelihood(parts=(Gaussian(sigma=0.5),), sizes=(2,)).check(torch.zeros(1, 3), (3,))
    with pytest.raises(DataError, match="counts"):
        SplitLikelihood(parts=(Poisson(),), sizes=(2,)).check(torch.full((1, 2), -1.0), (2,))


def test_split_is_a_module_with_all_its_tensors():
    split = SplitLikelihood(parts=(Gaussian(sigma=0.5), Poisson(gain=2.0)), sizes=(2, 1))
    assert len(split.state_dict()) == 2
    assert {t.dtype for t in split.to(F64).state_dict().values()} == {F64}


def test_randn_like_has_unit_variance_in_each_component():
    z = randn_like(torch.zeros(N, dtype=torch.complex64), rng(7))
    for part in (z.real, z.imag):
        assert float(part.var()) == pytest.approx(1.0, rel=0.04)
