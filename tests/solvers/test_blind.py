"""Blind solvers: an exact kernel step, known answers, another family of operators, energies, bad input."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

import pnpkit as pk
from pnpkit.errors import CapabilityError, ShapeError, SpecError
from pnpkit.likelihoods import Gaussian
from pnpkit.linalg import dense
from pnpkit.operators import CT, MRI, Blur
from pnpkit.operators.makers.kernels import anisotropic_gaussian_kernel, gaussian_kernel
from pnpkit.priors import GaussianMixture, UnitSum
from pnpkit.priors.base import Domain, Priors
from pnpkit.problem import Problem
from pnpkit.solvers.base import solve
from pnpkit.solvers.blind_dps import BlindDPS
from pnpkit.solvers.blind_pnp_dm import BlindPnPDM
from pnpkit.solvers.pnp_dm import PnPDM
from pnpkit.solvers.schedules import prior_energy
from pnpkit.testing.problems import IsotropicGaussian, blurred_problem


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def smooth(n, length):
    """A Gaussian prior on images n×n: mean 0.5, standard deviation 0.2."""
    at = torch.cartesian_prod(torch.arange(n), torch.arange(n)).float()
    covariance = 0.2**2 * torch.exp(-torch.cdist(at, at) / length) + 1e-6 * torch.eye(n * n)
    prior = GaussianMixture(means=torch.full((1, 1, n, n), 0.5), covariances=covariance[None])
    prior.domain = Domain((1, n, n), torch.float32, (0.0, float("inf")), (0.0, 1.0))
    return prior


@pytest.mark.parametrize("at_once", [2**22, 1])
@pytest.mark.parametrize(("channels", "own"), [(1, 1), (3, 1), (2, 2)])
def test_the_step_of_the_kernel_is_exact_on_its_support(channels, own, at_once, monkeypatch):
    """Against dense linear algebra, one tau per sample: mean of the draw by tau, and the normal matrix."""
    monkeypatch.setattr("pnpkit.operators.in_theta.AT_ONCE", at_once)
    blur = Blur(kernel=torch.rand(own, 4, 3, generator=rng()).double(), shape=(channels, 9, 8))
    x = torch.rand(2, channels, 9, 8, generator=rng(1)).double()
    in_theta = blur.in_theta("kernel", x)
    y, z = torch.rand(2, channels, 9, 8, generator=rng(2)).double(), torch.rand(2, own, 4, 3, generator=rng(3)).double()
    tau = torch.tensor([0.7, 30.0]).double()
    found = in_theta.prox_l2(z, y, tau)
    for i in (0, 1):
        alone = blur.in_theta("kernel", x[i : i + 1])
        a = dense(lambda k, op=alone: torch.cat([op(row[None]) for row in k]), (own, 4, 3), torch.float64)
        wanted = torch.linalg.solve(
            torch.eye(12 * own).double() + tau[i] * a.T @ a, z[i].flatten() + tau[i] * a.T @ y[i].flatten()
        )
        assert torch.allclose(found[i].flatten(), wanted, atol=1e-10)


def test_gradients_pass_through_the_fixed_image():
    blur = Blur.example()
    x = torch.rand(1, *blur.in_shape, generator=rng(), requires_grad=True)
    kernel = torch.rand(1, 1, 3, 4, generator=rng(1))
    blur.in_theta("kernel", x)(kernel).sum().backward()
    assert x.grad is not None and float(x.grad.abs().sum()) > 0


def test_prior_energy_is_minus_log_density_up_to_a_constant():
    """Two images under a smooth Gaussian prior: the difference of their energies against the exact one."""
    n = 6
    prior = smooth(n, 3.0)
    x = torch.cat([prior.sample(1, rng(1)), 0.5 + 0.25 * torch.randn(1, 1, n, n, generator=rng(2))])
    away = (x - 0.5).flatten(1).double()
    exact = 0.5 * (away @ torch.linalg.inv(prior.covariances[0].double()) * away).sum(1)
    found = prior_energy(prior, x, torch.full((2,), 1e-3), rng(3), n=60, repeats=20)
    assert float(found[1] - found[0]) == pytest.approx(float(exact[1] - exact[0]), rel=0.1)


def test_blind_deblurring_names_the_right_one_of_four_kernels():
    n, size = 20, 7
    kernels = torch.stack(
        [
            gaussian_kernel(size=size, std=0.5),
            gaussian_kernel(size=size, std=1.6),
            anisotropic_gaussian_kernel(size=size, std_y=2.0, std_x=0.5, angle_deg=0.0),
            anisotropic_gaussian_kernel(size=size, std_y=2.0, std_x=0.5, angle_deg=90.0),
        ]
    )
    on_kernels = GaussianMixture(means=kernels, covariances=torch.zeros(4, size**2, size**2))
    on_kernels.domain = Domain((1, size, size), torch.float32, (1e-5, 1e4), (0.0, float(kernels.max())))
    prior, truth = smooth(n, 6.0), torch.arange(8) % 4
    x = prior.sample(8, rng(4))
    y = Blur(kernel=kernels[truth], shape=(1, n, n))(x)
    y = y + 0.01 * torch.randn(y.shape, generator=rng(5))
    problem = Problem(Blur(kernel=kernels[1], shape=(1, n, n)), Gaussian(0.01), y)
    result = solve(problem, Priors(x=prior, theta=on_kernels), BlindPnPDM(n_steps=60, burn_in=45), chains=4)
    nearest = (result.theta[:, None] - kernels).flatten(2).square().sum(-1).argmin(1)
    assert int((nearest == truth).sum()) >= 6
    assert result.energy.shape == (8, 4) and result.theta_samples.shape[1:] == (8, 1, size, size)


def test_blind_dps_ends_where_image_and_kernel_explain_the_data():
    """Kernels of fixed sum: their gradient lies nearly along the sum, which is not uncertain at all."""
    n, size = 24, 5
    truth = anisotropic_gaussian_kernel(size, 1.2, 0.6, angle_deg=30.0)
    on_kernels = UnitSum(IsotropicGaussian(mean=1 / size**2, std=0.05))
    problem = Problem(Blur(kernel=truth / truth.sum(), shape=(1, n, n)), Gaussian(0.02), torch.zeros(2, 1, n, n))
    y = problem.operator(smooth(n, 6.0).sample(2, rng(4)))
    problem = replace(problem, y=y + 0.02 * torch.randn(y.shape, generator=rng(5)))
    result = solve(problem, Priors(x=smooth(n, 6.0), theta=on_kernels), BlindDPS(n_steps=100), chains=3)
    best = result.energy.argmin(1)
    assert result.energy.shape == (2, 3) and torch.equal(result.x, result.samples[best, torch.arange(2)])
    misfit = problem.at(kernel=result.theta).nll(result.x) / (n * n / 2)
    assert bool((misfit < 4).all()), misfit  # 1 is that of the noise; with the curvature along the gradient 16 and 22


@pytest.mark.parametrize("solver", [BlindPnPDM(parameter="offset", n_steps=25, burn_in=15, rho_theta_start=2.0,
                                               rho_theta_end=0.05), BlindDPS(parameter="offset", n_steps=60)],
                         ids=["pnp_dm", "dps"])  # fmt: skip
def test_an_unknown_detector_offset_of_a_scanner(solver):
    """Another family of operators, not linear in its parameter, through the same contract."""
    n, prior = 12, smooth(12, 5.0)
    on_offset = GaussianMixture(means=torch.zeros(1, 1), covariances=torch.full((1, 1, 1), 4.0))
    truth = torch.tensor([[1.5], [-0.8]])
    angles = torch.linspace(0, 6.283, 17)[:-1]
    scanner = CT(angles=angles, shape=(1, n, n), detectors=21, offset=torch.zeros(1)).with_cg(max_iter=500)
    y = scanner.at(offset=truth)(prior.sample(2, rng(6)))
    y = y + 0.1 * torch.randn(y.shape, generator=rng(7))
    result = solve(Problem(scanner, Gaussian(0.1), y), Priors(x=prior, theta=on_offset), solver)
    assert float((result.theta - truth).abs().max()) < 0.2


def test_the_noise_begins_wider_and_ends_as_it_is():
    problem, solver = blurred_problem(), BlindPnPDM(n_steps=10, burn_in=4, noise_start=9 * 0.05)
    own = float(problem.likelihood.sigma)
    assert own == pytest.approx(0.05)
    for k, factor in ((0, 9.0), (2, 3.0), (4, 1.0), (9, 1.0)):
        assert torch.allclose(solver.tempered(problem, k).likelihood.sigma, torch.tensor(factor * own))
    assert solver.scaled(2.0).noise_start == pytest.approx(2 * 9 * 0.05)
    noisier = replace(problem, likelihood=Gaussian(1.0))  # than the start: it stays as it is
    assert float(solver.tempered(noisier, 0).likelihood.sigma) == 1.0


def test_couplings_of_a_cycle_fall_again_and_the_parameter_waits_for_the_image():
    problem = blurred_problem(2)
    priors = Priors(x=IsotropicGaussian(), theta=IsotropicGaussian(mean=1 / 9, std=0.1))
    solver = BlindPnPDM(n_steps=18, cycle=9, held=4, burn_in=7, thin=1, rho_start=1.0, rho_theta_start=0.2,
                        rho_theta_end=0.02)  # fmt: skip
    thetas, kernel = [], problem.operator.kernel
    result = solve(problem, priors, solver, progress=lambda step: thetas.append(step.state.theta))
    assert all(torch.equal(t, kernel.expand_as(t)) for t in thetas[:4])  # it begins at the operator's own
    moves = [not torch.equal(a, b) for a, b in pairwise(thetas)]
    assert moves == [False] * 3 + [True] * 5 + [False] * 4 + [True] * 5
    rho, rho_theta = result.info["rho"][:, 0], result.info["rho_theta"][:, 0]
    assert torch.equal(rho[:9], rho[9:]) and torch.equal(rho_theta[:9], rho_theta[9:])
    assert rho[0] == 1.0 and bool((rho[3:9] == rho[3]).all()) and bool((rho[:4].diff() < 0).all())
    assert rho_theta[4:9].tolist() == pytest.approx([0.2, 0.2 * 0.1 ** (1 / 3), 0.2 * 0.1 ** (2 / 3), 0.02, 0.02])
    assert len(result.samples) == 4  # the last two of each cycle


def test_counts_have_no_noise_to_begin_wider_which_is_said_when_composing():
    priors = Priors(x=IsotropicGaussian(), theta=IsotropicGaussian(mean=1 / 9, std=0.1))
    operator = blurred_problem().operator
    with pytest.raises(CapabilityError, match="noise_start"):
        pk.compose(operator, prior=priors, solver={"name": "blind_pnp_dm", "noise_start": 0.3}, noise=pk.Poisson(100.0))
    pk.compose(operator, prior=priors, solver="blind_pnp_dm", noise=pk.Poisson(100.0))


def test_kernels_of_unit_sum_stay_so():
    """Without UnitSum the prior leaves the kernel's sum free, and image and kernel trade a factor."""
    on_kernels = IsotropicGaussian(mean=1 / 9, std=0.1)
    for theta, exact in ((on_kernels, False), (UnitSum(denoiser=on_kernels), True)):
        result = solve(blurred_problem(2), Priors(x=IsotropicGaussian(), theta=theta), BlindPnPDM(n_steps=6, burn_in=2))
        away = (result.theta_samples.sum((-2, -1)) - 1).abs().max()
        assert (float(away) < 1e-5) is exact


def test_blind_results_come_back_from_their_file(tmp_path):
    priors = Priors(x=IsotropicGaussian(), theta=IsotropicGaussian(mean=1 / 9, std=0.1))
    result = solve(blurred_problem(2), priors, BlindPnPDM(n_steps=6, burn_in=2), chains=3)
    result.save(tmp_path / "r.safetensors")
    back = pk.Result.load(tmp_path / "r.safetensors")
    for name in ("x", "theta", "theta_samples", "energy"):
        assert torch.equal(getattr(back, name), getattr(result, name)), name
    # what is shown is of the chain with the least energy
    best = int(result.energy[0].argmin())
    chain = result.samples.unflatten(0, (3, -1))[best, :, 0]
    assert torch.allclose(result.x[0], chain.mean(0), atol=1e-6)


def test_presets_are_in_units_of_the_images():
    solver = PnPDM.preset("deblurring")
    assert (solver.rho_start, solver.rho_end, solver.decay) == (5.0, 0.15, 0.9)
    assert BlindPnPDM.preset("prism", half_range=1.0).rho_end == 0.1
    with pytest.raises(SpecError, match="has no preset"):
        PnPDM.preset("deblurrring")


def test_a_config_names_a_preset_and_may_change_it():
    named = pk.solver({"name": "blind_pnp_dm", "preset": "deblurring", "n_steps": 7})
    assert named == replace(BlindPnPDM.preset("deblurring"), n_steps=7)
    with pytest.raises(SpecError, match=r"no preset 'deblur'.*deblurring"):
        pk.solver({"name": "blind_pnp_dm", "preset": "deblur"})
    with pytest.raises(SpecError, match="HQS has no presets"):
        pk.solver({"name": "hqs", "preset": "deblurring"})


def test_bad_input():
    problem = blurred_problem()
    priors = Priors(x=IsotropicGaussian(), theta=IsotropicGaussian(mean=1 / 9, std=0.1))
    with pytest.raises(SpecError, match="has the parameters"):
        solve(problem, priors, BlindPnPDM(parameter="kernal"))
    mri = Problem(
        MRI(mask=torch.ones(1, 4, 4), maps=torch.ones(2, 4, 4, dtype=torch.complex64)),
        Gaussian(0.1),
        torch.ones(1, 2, 4, 4, dtype=torch.complex64),
    )
    with pytest.raises(CapabilityError, match="complex64"):
        solve(mri, priors, BlindPnPDM(parameter="maps"))
    with pytest.raises(CapabilityError, match=r"prior\.theta"):
        pk.compose(problem.operator, prior=IsotropicGaussian(), solver="blind_pnp_dm", noise=pk.Gaussian(0.1))
    wrong = Priors(x=IsotropicGaussian(), theta=smooth(5, 2.0))
    with pytest.raises((CapabilityError, ShapeError), match=r"\(1, 5, 5\)"):
        solve(problem, wrong, BlindPnPDM(n_steps=3))
    with pytest.raises(ShapeError, match="larger than the image"):
        Blur(kernel=torch.ones(1, 9, 9), shape=(1, 8, 8))
    with pytest.raises(SpecError, match="zero everywhere"):
        Blur(kernel=torch.zeros(1, 3, 3), shape=(1, 8, 8))
    with pytest.raises(SpecError, match="held is at most burn_in"):
        BlindPnPDM(held=30, burn_in=20)
    with pytest.raises(SpecError, match=r"cycle of 70 steps .* keeps none"):
        PnPDM(cycle=70)
