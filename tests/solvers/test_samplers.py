"""Posterior samplers: exact posteriors, chains, other operators and noise models, chains that diverge."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import pnpkit as pk
from pnpkit import registry
from pnpkit.errors import CapabilityError, SpecError
from pnpkit.likelihoods import Gaussian, Poisson
from pnpkit.operators import CT, MRI, Blur, Inpainting, PhaseRetrieval, SuperResolution
from pnpkit.operators.base import LinearOperator
from pnpkit.operators.spectrum import Spectrum
from pnpkit.priors import ComplexAsReal, GaussianMixture
from pnpkit.problem import Problem
from pnpkit.solvers.base import solve
from pnpkit.solvers.daps import DAPS
from pnpkit.solvers.diffpir import DiffPIR
from pnpkit.solvers.diffusion import reverse_diffusion
from pnpkit.solvers.dps import DPS
from pnpkit.solvers.pigdm import PiGDM
from pnpkit.solvers.pnp_dm import PnPDM
from pnpkit.testing.problems import IsotropicGaussian, Mixing, mixing_problem

SAMPLERS = ("dps", "pigdm", "ddrm", "ddnm", "diffpir", "daps", "annealed_langevin", "pnp_dm")
ANY_OPERATOR = ("dps", "daps", "annealed_langevin", "pnp_dm", "red_diff")


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def white(n=24, std=0.2, sigma=0.1):
    """Pixels N(0.5, std²), half of them seen: problem, prior, exact mean and std (1, n, n), what is seen."""
    mask = (torch.rand(1, n, n, generator=rng()) > 0.5).float()
    operator = Inpainting(mask=mask)
    x = 0.5 + std * torch.randn(1, 1, n, n, generator=rng(1))
    y = operator(x) + sigma * torch.randn(1, 1, n, n, generator=rng(2))
    variance = 1 / (1 / std**2 + mask / sigma**2)
    mean = variance * (0.5 / std**2 + operator.adjoint(y)[0] / sigma**2)
    return Problem(operator, Gaussian(sigma), y), IsotropicGaussian(mean=0.5, std=std), mean, variance.sqrt(), mask > 0


@pytest.mark.parametrize("name", ["dps", "pigdm", "diffpir", "daps", "pnp_dm"])
def test_exact_on_white_gaussian_images(name):
    """The problem of PEERS.md D5: spread of seen and unseen pixels, and the mean, within a few per cent."""
    problem, prior, mean, std, seen = white()
    result = solve(problem, prior, registry.solver(name), chains=100)
    away = (result.samples[:, 0] - mean) / std
    assert float(away[:, seen].std()) == pytest.approx(1, abs=0.06)
    assert float(away[:, ~seen].std()) == pytest.approx(1, abs=0.06)
    assert float(away.mean(0).square().mean().sqrt()) < 0.2
    spread = torch.distributions.Normal(mean, std)
    low, high = (limit[0] for limit in result.interval(0.9))
    assert 0.88 < float((spread.cdf(high) - spread.cdf(low)).mean()) < 0.92


@pytest.mark.parametrize(
    ("solver", "least"),
    [
        (DPS(guidance="norm", weight=0.3, n_steps=300), 0.6),
        (DAPS(ode_steps=5, n_steps=40), 0.9),
        (DiffPIR(lam=7.0, zeta=0.3), 0.8),
        (PnPDM.preset("deblurring", half_range=0.4), 0.95),
    ],
    ids=["dps", "daps", "diffpir", "pnp_dm"],
)
def test_published_rules_follow_the_data(solver, least):
    problem, prior, mean, _, seen = white()
    x = solve(problem, prior, solver, chains=8).x[0]
    assert float(torch.corrcoef(torch.stack([x[seen], mean[seen]]))[0, 1]) > least


@pytest.mark.parametrize("ratio", [0.01, 1.0, 3.0])
def test_draws_of_the_prior_have_the_variance_of_x0_given_a_noisy_image(ratio):
    """``reverse_diffusion`` from level ratio·std, 10 calls, pixels N(0.5, std²)."""
    prior = IsotropicGaussian(mean=0.5, std=0.2)
    sigma = torch.full((2000,), 0.2 * ratio)
    z = torch.full((2000, 1, 3, 3), 0.6)
    x = reverse_diffusion(prior, z, sigma, sigma / 25, 10, rng())
    gain = 1 / (1 + ratio**2)
    assert float(x.mean()) == pytest.approx(0.5 + gain * 0.1, abs=0.01 * 0.2 * ratio + 1e-3)
    assert float(x.var()) == pytest.approx(gain * (0.2 * ratio) ** 2, rel=0.06)


def test_dps_nears_the_exact_mean_through_a_blur():
    """The uncertainty of what blurs away must not hold back what the data tell."""
    n = 12
    at = torch.cartesian_prod(torch.arange(n), torch.arange(n)).float()
    covariance = 0.2**2 * torch.exp(-torch.cdist(at, at) / 3)
    prior = GaussianMixture(means=torch.full((1, 1, n, n), 0.5), covariances=covariance[None])
    operator = Blur(kernel=pk.make("gaussian_kernel", size=5, std=1.0), shape=(1, n, n))
    y = operator(prior.sample(1, rng(1)))
    problem = Problem(operator, Gaussian(0.05), y + 0.05 * torch.randn(y.shape, generator=rng(2)))
    exact = prior.posterior(problem).sample(4000, rng(3))
    result = solve(problem, prior, DPS(), chains=300)
    error = (result.x[0] - exact.mean(0)) / exact.std(0)
    assert float(error.square().mean().sqrt()) < 0.2  # with the curvature along the gradient in its place: 0.25


@pytest.mark.parametrize("name", ["dps", "pigdm"])
def test_noise_in_masked_pixels_changes_nothing(name):
    problem, prior, *_, seen = white()
    noisy = replace(problem, y=torch.where(seen, problem.y, 3 * torch.randn(problem.y.shape, generator=rng(8))))
    found = [solve(p, prior, registry.solver(name)).x for p in (problem, noisy)]
    assert torch.allclose(*found, atol=1e-5)


def test_ddrm_has_its_published_spread():
    """Seen pixels vary too little by construction (eta_b = 1 trusts y where it is cleaner than the next level)."""
    problem, prior, mean, std, seen = white()
    away = (solve(problem, prior, registry.solver("ddrm"), chains=60).samples[:, 0] - mean) / std
    assert float(away[:, seen].std()) < 0.6 and float(away[:, ~seen].std()) > 0.75


def test_pnp_dm_approaches_the_posterior_as_the_square_of_its_coupling():
    problem, prior, _, std, seen = white()
    excess = []
    for rho in (0.1, 0.05):
        solver = PnPDM(n_steps=200, burn_in=60, thin=5, rho_start=0.8, rho_end=rho, prior_steps=16)
        samples = solve(problem, prior, solver, chains=40).samples[:, 0]
        excess.append(float((samples.var(0) / std**2)[seen].mean()) - 1)
    assert excess[1] < 0.3 and excess[0] / excess[1] == pytest.approx(4, rel=0.3)


def test_weights_of_modes():
    """Two modes that one seen pixel tells apart by 3 : 1: weights between the exact ones and the prior's 1 : 1."""
    means = torch.zeros(2, 1, 3, 3)
    means[1] = 1.0
    prior = GaussianMixture(means=means, covariances=0.1**2 * torch.eye(9).repeat(2, 1, 1))
    mask = torch.zeros(1, 3, 3)
    mask[0, 1, 1] = 1
    sigma = 0.5
    seen = 0.5 - 0.5 * (sigma**2 + 0.01) * float(torch.log(torch.tensor(3.0))) / 0.5  # log odds −ln 3 of the second
    y = mask[None] * seen
    problem = Problem(Inpainting(mask=mask), Gaussian(sigma), y)
    exact = float(prior.posterior(problem).weights[1])
    assert exact == pytest.approx(0.25, abs=0.01)
    for solver in (PiGDM(), DPS()):
        x = solve(problem, prior, solver, chains=600).samples[:, 0]
        weight = float((x.mean((1, 2, 3)) > 0.5).float().mean())
        assert exact - 0.04 < weight < 0.42, type(solver).__name__


def test_one_chain_sees_both_modes_when_its_coupling_rises_again():
    means = torch.tensor([0.2, 0.8])[:, None, None, None].expand(2, 1, 4, 4)
    prior = GaussianMixture(means=means, covariances=0.02**2 * torch.eye(16).expand(2, -1, -1))
    problem = Problem(Inpainting(mask=torch.ones(1, 4, 4)), Gaussian(5.0), torch.full((8, 1, 4, 4), 0.5))
    share = []
    for cycle in (None, 20):
        solver = PnPDM(n_steps=600, cycle=cycle, burn_in=15, thin=1, rho_start=2.0, rho_end=0.02)
        found = solve(problem, prior, solver).samples.mean((-3, -2, -1))  # (draws, 8)
        share.append((found > 0.5).float().mean(0))
    assert bool(((share[0] == 0) | (share[0] == 1)).all())  # each chain stays where it fell
    assert bool(((share[1] > 0.2) & (share[1] < 0.8)).all())  # exact: a half


@pytest.mark.parametrize("name", ANY_OPERATOR)
def test_counts(name):
    """Poisson counts: the mean goes with the weighted least-squares estimate under the prior."""
    solver = registry.solver(name)
    shape = (1, 6, 6)
    prior = IsotropicGaussian(mean=0.5, std=0.2)
    x = 0.5 + 0.2 * torch.randn(1, *shape, generator=rng(4))
    counts = Problem(Mixing(shape=shape, positive=True), Poisson(gain=100.0, background=1.0), torch.zeros(1, 54))
    y = counts.likelihood.sample(counts.operator(x.abs()), rng(5))
    counts = Problem(counts.operator, counts.likelihood, y)
    result = solve(counts, prior, solver, chains=4 if solver.samples else 1)
    a, w = pk.linalg.dense(counts.operator, shape, torch.float32), counts.likelihood.weights(y)[0]
    normal = a.T @ (w[:, None] * a) + torch.eye(36) / 0.2**2
    wanted = torch.linalg.solve(normal, a.T @ (w * counts.likelihood.invert(y)[0]) + 0.5 / 0.2**2)
    found = torch.corrcoef(torch.stack([result.x.flatten(), wanted]))[0, 1]
    assert bool(result.finite.all()) and float(found) > (0.85 if name in ("daps", "pnp_dm") else 0.4)


@pytest.mark.parametrize("name", ["dps", "daps", "pnp_dm"])
def test_phase_retrieval_runs_on_complex_images(name):
    operator = PhaseRetrieval.example()
    prior = IsotropicGaussian(mean=0.5, std=0.3)
    prior.domain = type(prior.domain)(None, operator.in_dtype, prior.domain.sigma_range, prior.domain.value_range)
    x = 0.5 + 0.3 * torch.randn(2, *operator.in_shape, dtype=operator.in_dtype, generator=rng(6))
    y = operator(x)
    problem = Problem(operator, Gaussian(0.02 * float(y.std())), y)
    result = solve(problem, prior, registry.solver(name), chains=2)
    assert bool(result.finite.all()) and result.samples.shape[1:] == x.shape
    assert float(problem.nll(result.x).mean()) < float(problem.nll(torch.full_like(x, 0.5)).mean())


@pytest.mark.parametrize("name", SAMPLERS)
def test_complex_mri(name):
    """A single coil, half of k-space: closed forms of complex operators, samples about a complex mean."""
    mask = (torch.rand(1, 12, 12, generator=rng(7)) > 0.4).float()
    operator = MRI(mask=mask)
    real = IsotropicGaussian(mean=0.0, std=0.3)
    real.domain = replace(real.domain, shape=(2, None, None))
    prior = ComplexAsReal(denoiser=real)
    x = 0.3 * torch.randn(1, 1, 12, 12, dtype=torch.complex64, generator=rng(8)) * 2**0.5
    y = operator(x) + mask * 0.05 * torch.randn(x.shape, dtype=x.dtype, generator=rng(9)) * 2**0.5
    result = solve(Problem(operator, Gaussian(0.05), y), prior, registry.solver(name), chains=40)
    gain = 0.09 / (0.09 + 0.05**2)
    exact = gain * operator.adjoint(y)  # independent in k-space
    miss = (result.x - exact).abs().square().mean().sqrt() / exact.abs().square().mean().sqrt()
    assert float(miss) < 0.25
    if name in ("pigdm", "diffpir", "daps", "pnp_dm"):
        variance = 0.09 * (1 - gain * mask.mean())  # per real component and pixel: seen and unseen frequencies
        assert float(result.std.square().mean()) == pytest.approx(float(variance), rel=0.12)


@pytest.mark.parametrize("name", ["pigdm", "diffpir", "daps", "pnp_dm", "dps"])
def test_computed_tomography(name):
    """No closed form: CG inside."""
    operator = CT(angles=torch.linspace(0, 3.1, 12), shape=(1, 12, 12), detectors=17).with_cg(max_iter=500)
    prior = IsotropicGaussian(mean=0.5, std=0.2)
    x = 0.5 + 0.2 * torch.randn(1, 1, 12, 12, generator=rng(10))
    y = operator(x) + 0.3 * torch.randn(1, *operator.out_shape, generator=rng(11))
    result = solve(Problem(operator, Gaussian(0.3), y), prior, registry.solver(name), chains=8)
    a = pk.linalg.dense(operator, operator.in_shape, torch.float32)
    normal = a.T @ a / 0.3**2 + torch.eye(144) / 0.2**2
    exact = torch.linalg.solve(normal, a.T @ y.flatten() / 0.3**2 + 0.5 / 0.2**2)
    assert float(torch.corrcoef(torch.stack([result.x.flatten(), exact]))[0, 1]) > (0.8 if name == "dps" else 0.93)


# --- chains and results ---


def test_chains_are_gathered_by_measurement_and_chain():
    problem = mixing_problem(n=2)
    prior = IsotropicGaussian()
    solver = PnPDM(n_steps=12, burn_in=5, thin=3)
    result = solve(problem, prior, solver, chains=3)
    kept = [k for k in range(12) if solver.keeps(k)]
    assert kept == [5, 8, 11] and result.samples.shape == (9, 2, 1, 4, 4) and result.chains == 3
    assert result.finite.shape == (2, 3) and result.info["rho"].shape == (12, 2, 3)
    assert torch.allclose(result.x, result.samples.mean(0), atol=1e-6)
    assert result.std.shape == result.x.shape and result.quantile(0.5).shape == result.x.shape
    # samples of one measurement lie by its own data
    nearest = [float(problem[i : i + 1].nll(result.x[i : i + 1])) for i in (0, 1)]
    swapped = [float(problem[i : i + 1].nll(result.x[1 - i : 2 - i])) for i in (0, 1)]
    assert all(a < b for a, b in zip(nearest, swapped, strict=True))


class Watched(IsotropicGaussian):
    """Keeps how many images each call was given; counted copies share the list."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def _denoise(self, x, sigma):
        self.batches.append(len(x))
        return super()._denoise(x, sigma)


def test_chains_share_their_first_steps(tmp_path):
    """One chain takes them: as many calls, of fewer images; chains differ afterwards only."""
    problem, solver = mixing_problem(n=2), PnPDM(n_steps=12, burn_in=6, thin=1, prior_steps=4, shared_steps=5)
    steps = []
    result = solve(problem, prior := Watched(), solver, seed=3, chains=3, progress=steps.append)
    assert prior.batches == 5 * 4 * [2] + 7 * 4 * [6] and result.calls["prior"] == 12 * 4
    same = [[bool((x[:, 0] == x[:, i]).all()) for i in (1, 2)] for x in (s.x.unflatten(0, (2, 3)) for s in steps)]
    assert same == 5 * [[True, True]] + 7 * [[False, False]]
    assert result.info["rho"].shape == (12, 2, 3) and result.samples.shape == (18, 2, 1, 4, 4)
    again = solve(problem, prior, solver, seed=3, chains=3)
    assert torch.equal(again.samples, result.samples)
    alone = solve(problem, prior, solver, seed=3)  # a single chain has nobody to share with
    assert torch.equal(alone.samples, solve(problem, prior, replace(solver, shared_steps=0), seed=3).samples)
    # cut off while they are one, and resumed
    file = tmp_path / "run"

    def cut(step):
        if step.k == 2:
            raise KeyboardInterrupt

    solve(problem, prior, solver, seed=3, chains=3, checkpoint=file, progress=cut)
    assert torch.equal(solve(problem, prior, solver, seed=3, chains=3, checkpoint=file).samples, result.samples)
    with pytest.raises(SpecError, match="at most burn_in"):
        PnPDM(burn_in=6, shared_steps=7)


def test_convergence_of_chains():
    """A wide coupling moves and mixes; a narrow one does not, and is seen not to."""
    problem, prior = mixing_problem(n=1), IsotropicGaussian()
    wide = solve(problem, prior, PnPDM(n_steps=140, burn_in=40, thin=1, rho_end=0.3), chains=4)
    assert wide.rhat().shape == (1, 1, 4, 4) and float(wide.rhat().median()) < 1.1
    assert 30 < float(wide.ess().median()) <= 4 * 100 * 2.7
    narrow = solve(problem, prior, PnPDM(n_steps=140, burn_in=40, thin=1, rho_end=0.005), chains=4)
    assert float(narrow.rhat().median()) > 1.5 and float(narrow.ess().median()) < 30


def test_numpy_and_single_images_come_back_as_given():
    reconstruct = pk.compose(Mixing.example(), prior=IsotropicGaussian(), solver="pnp_dm", noise=pk.Gaussian(0.1))
    y = np.ones(18, dtype=np.float32)
    result = reconstruct(y, chains=20)
    assert isinstance(result.samples, np.ndarray) and result.samples.shape[1:] == (1, 3, 4)
    low, high = result.interval(0.9)
    assert isinstance(low, np.ndarray) and low.shape == (1, 3, 4) and bool((low < high).all())


def test_results_with_samples_come_back_from_their_file(tmp_path):
    result = solve(mixing_problem(n=1), IsotropicGaussian(), PnPDM(n_steps=8, burn_in=2), chains=2)
    result.save(tmp_path / "r.safetensors")
    back = pk.Result.load(tmp_path / "r.safetensors")
    assert torch.equal(back.samples, result.samples) and back.chains == 2 and torch.equal(back.std, result.std)


class Bursting(LinearOperator):
    """y = x, but the image of an unlucky sample becomes infinite."""

    def __init__(self, shape: tuple[int, ...] = (1, 4, 4)):
        super().__init__(shape)
        self.shape = shape

    def _forward(self, x):
        return x

    def _adjoint(self, y):
        return y

    def _prox_l2(self, z, y, tau):
        out = (z + y) / 2
        out[1::3] = torch.inf
        return out


def test_a_chain_that_diverges_is_flagged_and_the_others_are_kept():
    problem = Problem(Bursting(), Gaussian(0.1), torch.ones(1, 1, 4, 4))
    result = solve(problem, IsotropicGaussian(), PnPDM(n_steps=6, burn_in=2), chains=3)
    assert result.finite.tolist() == [[True, False, True]]
    chains = result.samples.unflatten(0, (3, -1))
    assert bool(chains[1].isnan().all()) and bool(chains[[0, 2]].isfinite().all())
    assert bool(result.x.isfinite().all()) and bool(result.std.isfinite().all())


@pytest.mark.parametrize("solver", [DPS(n_steps=4), PiGDM(n_steps=4)])
def test_gradients_pass_through_guided_samplers(solver):
    """Of a run with respect to its data: against a difference."""
    problem = mixing_problem(n=1)
    problem = replace(problem, operator=problem.operator.double(), y=problem.y.double())
    prior = IsotropicGaussian().double()
    prior.domain = replace(prior.domain, dtype=torch.float64)

    def end(y: torch.Tensor) -> torch.Tensor:
        return solve(replace(problem, y=y), prior, solver, grad=True).x.square().sum()

    y = problem.y.clone().requires_grad_()
    end(y).backward()
    direction = torch.randn(y.shape, generator=rng(), dtype=y.dtype)
    with torch.no_grad():
        change = (end(problem.y + 1e-6 * direction) - end(problem.y - 1e-6 * direction)) / 2e-6
    assert float((y.grad * direction).sum()) == pytest.approx(float(change), rel=1e-4)


class Closed(IsotropicGaussian):
    """A denoiser that switches gradients off."""

    @torch.no_grad()
    def _denoise(self, x, sigma):
        return super()._denoise(x, sigma)


def test_a_denoiser_without_gradients_is_refused_by_those_who_need_them():
    with pytest.raises(CapabilityError, match="No gradient passes through Closed"):
        solve(mixing_problem(), Closed(), DPS(n_steps=3))
    solve(mixing_problem(), Closed(), DiffPIR(n_steps=3))


def test_bad_input():
    problem, prior = mixing_problem(), IsotropicGaussian()
    with pytest.raises(SpecError, match="does not sample"):
        solve(problem, None, registry.solver("cg"), chains=4)
    with pytest.raises(SpecError, match="at least one"):
        solve(problem, prior, registry.solver("dps"), chains=0)
    with pytest.raises(CapabilityError, match="has no samples"):
        _ = solve(problem, None, registry.solver("cg")).std
    blur = CT(angles=torch.linspace(0, 3, 8), shape=(1, 40, 40), detectors=60)
    with pytest.raises(CapabilityError, match="spectral"):
        pk.compose(blur, prior=prior, solver="ddrm", noise=pk.Gaussian(0.1))
    with pytest.raises(CapabilityError, match="linear"):
        pk.compose(PhaseRetrieval.example(), prior=prior, solver="pigdm", noise=pk.Gaussian(0.1))
    with pytest.raises(CapabilityError, match="complex64"):
        pk.compose(MRI(mask=torch.ones(1, 8, 8)), prior=prior, solver="dps", noise=pk.Gaussian(0.1))
    with pytest.raises(SpecError, match="finite and > 0"):
        pk.Gaussian(0.0)


# --- functions of singular values ---


@pytest.mark.parametrize(
    "operator",
    [
        Blur.example(),
        Inpainting.example(),
        SuperResolution.example(),
        MRI(mask=torch.ones(1, 4, 4) * torch.tensor([1.0, 0, 1, 1])),
        Mixing.example(),
    ],
    ids=lambda op: type(op).__name__,
)
def test_functions_of_singular_values_are_those_of_the_dense_matrix(operator):
    operator = operator.to(torch.float64)
    matrix = pk.linalg.dense(operator, operator.in_shape, operator.in_dtype)
    u, s, vh = torch.linalg.svd(matrix)
    spectrum = Spectrum(operator)
    x = torch.randn(2, *operator.in_shape, dtype=operator.in_dtype, generator=rng(12))
    y = torch.randn(2, *operator.out_shape, dtype=operator.out_dtype, generator=rng(13))
    f = lambda d: 1 / (1 + 3 * d)  # noqa: E731
    full = torch.zeros(matrix.shape[1], dtype=torch.float64)
    full[: len(s)] = torch.where(s > 1e-6 * s.max(), s, 0)
    wanted = ((vh @ x.flatten(1).T).T * f(full**2)) @ vh.conj()
    assert torch.allclose(spectrum.image(x, f).flatten(1), wanted, atol=1e-9)
    along = (u.conj().T @ y.flatten(1).T).T[:, : len(s)]
    good = full[: len(s)] > 0
    part = torch.where(good, f(full[: len(s)] ** 2) / torch.where(good, full[: len(s)], 1), 0) * along
    assert torch.allclose(spectrum.data(y, f).flatten(1), part @ vh.conj()[: len(s)], atol=1e-9)
