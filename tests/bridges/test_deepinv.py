"""deepinv: its physics and denoisers as ours, ours in its tests and optimisers."""

import pytest
import torch

from pnpkit import make
from pnpkit.bridges.deepinv import denoiser_from_deepinv, denoiser_to_deepinv, from_deepinv, to_deepinv
from pnpkit.errors import CapabilityError, ShapeError, SpecError
from pnpkit.likelihoods import Gaussian, Poisson
from pnpkit.operators import Blur, Inpainting, PhaseRetrieval
from pnpkit.priors import FFDNet, UNetDenoiser
from pnpkit.priors.base import Domain
from pnpkit.problem import Problem
from pnpkit.solvers import HQS
from pnpkit.solvers.base import solve


def test_a_linear_physics():
    import deepinv as dinv

    kernel = make("motion_kernel", size=5, seed=1)
    noise = dinv.physics.GaussianNoise(0.03)
    theirs = dinv.physics.BlurFFT(img_size=(1, 16, 12), filter=kernel[None], noise_model=noise)
    operator, likelihood = from_deepinv(theirs)
    x, y = torch.rand(2, 1, 16, 12), torch.rand(2, 1, 16, 12)
    assert torch.equal(operator(x), theirs.A(x)) and torch.equal(operator.adjoint(y), theirs.A_adjoint(y))
    assert torch.allclose(operator.prox_l2(x, y, 0.7), theirs.prox_l2(x, y, 0.7), atol=1e-6)
    each = operator.prox_l2(x, y, torch.tensor([0.5, 2.0]))
    assert torch.allclose(each[1:], theirs.prox_l2(x[1:], y[1:], 2.0), atol=1e-5)
    assert isinstance(likelihood, Gaussian) and float(likelihood.sigma) == pytest.approx(0.03)


def test_the_physics_is_copied():
    import deepinv as dinv

    theirs = dinv.physics.BlurFFT(img_size=(1, 8, 8), filter=torch.ones(1, 1, 1, 1))
    operator, likelihood = from_deepinv(theirs)
    x = torch.rand(1, 1, 8, 8)
    before = operator(x)
    theirs.update(filter=torch.zeros(1, 1, 1, 1))
    assert torch.equal(operator(x), before) and likelihood is None


@pytest.mark.parametrize("padding", ["valid", "circular", "reflect"])
def test_a_physics_moves_and_conforms(padding):
    """What a physics holds follows the operator to float64; every check of the suite passes."""
    import deepinv as dinv

    from pnpkit.testing import run_checks

    theirs = dinv.physics.Blur(filter=make("motion_kernel", size=3, seed=1)[None], padding=padding)
    operator, _ = from_deepinv(theirs, (1, 8, 7))
    x = torch.rand(1, 1, 8, 7)
    assert torch.allclose(operator.double()(x.double()).float(), theirs.A(x), atol=1e-6)
    bad = [f"{o.name}: {o.message}" for o in run_checks(operator.float()) if o.bad]
    assert [b for b in bad if "cannot be saved" not in b] == []


def test_a_step_of_zero_changes_nothing():
    import deepinv as dinv

    operator, _ = from_deepinv(dinv.physics.Inpainting(img_size=(1, 4, 4), mask=torch.ones(1, 4, 4)))
    z, y = torch.rand(2, 1, 4, 4), torch.rand(2, 1, 4, 4)
    assert torch.equal(operator.prox_l2(z, y, 0.0), z)
    assert torch.allclose(operator.prox_l2(z, y, torch.tensor([0.0, 1.0])), torch.stack([z[0], (z[1] + y[1]) / 2]))


def test_a_physics_without_size_and_one_that_is_not_linear():
    import deepinv as dinv

    with pytest.raises(ShapeError, match="give in_shape"):
        from_deepinv(dinv.physics.Blur(filter=torch.ones(1, 1, 3, 3) / 9))
    operator, _ = from_deepinv(dinv.physics.Blur(filter=torch.ones(1, 1, 3, 3) / 9, padding="circular"), (1, 8, 6))
    x = torch.rand(1, 1, 8, 6)
    assert torch.allclose(operator(x), Blur(kernel=torch.ones(1, 3, 3) / 9, shape=(1, 8, 6))(x), atol=1e-6)
    retrieval = dinv.physics.RandomPhaseRetrieval(m=40, img_size=(1, 4, 4), dtype=torch.complex64)
    operator, _ = from_deepinv(retrieval, complex=True)
    z = torch.randn(2, 1, 4, 4, dtype=torch.complex64)
    assert (
        not operator.linear
        and torch.equal(operator(z), retrieval.A(z))
        and operator.vjp(z, operator(z)).shape == z.shape
    )


def test_poisson_noise():
    import deepinv as dinv

    plain = dinv.physics.Denoising(dinv.physics.PoissonNoise(gain=0.1, normalize=False))
    _, likelihood = from_deepinv(plain, (1, 4, 4))
    assert isinstance(likelihood, Poisson) and float(likelihood.gain) == pytest.approx(10)
    with pytest.raises(CapabilityError, match="normalize=True"):
        from_deepinv(dinv.physics.Denoising(dinv.physics.PoissonNoise(gain=0.1)), (1, 4, 4))


def test_our_operators_pass_deepinvs_own_tests():
    ours = Blur(kernel=make("gaussian_kernel", size=5, std=1.0), shape=(2, 12, 10))
    theirs = to_deepinv(ours, Gaussian(sigma=0.02))
    x = torch.rand(3, 2, 12, 10)
    assert float(theirs.adjointness_test(x)) < 1e-3
    assert float(theirs.compute_norm(x, squared=False, verbose=False)) == pytest.approx(float(ours.norm()), rel=1e-2)
    assert torch.allclose(theirs.prox_l2(x, ours(x), torch.tensor(0.5)), ours.prox_l2(x, ours(x), 0.5))
    assert float((theirs(x) - ours(x)).std()) == pytest.approx(0.02, rel=0.1)
    with pytest.raises(SpecError, match="no bridge"):
        to_deepinv(ours, Poisson(gain=1.0))
    nonlinear = to_deepinv(PhaseRetrieval(shape=(1, 6, 6)))
    assert torch.equal(nonlinear(x[:1, :1, :6, :6]), PhaseRetrieval(shape=(1, 6, 6))(x[:1, :1, :6, :6]))


def test_deepinvs_dpir_on_our_operator_and_denoiser_is_our_hqs(data_dir):
    import deepinv as dinv

    network = FFDNet(weights=str(data_dir / "weights" / "FFDNet_gray.npz"))
    mask = make("random_mask", shape=(1, 32, 32), fraction=0.5)
    operator, sigma = Inpainting(mask=mask), 0.05
    y = operator(torch.rand(1, 1, 32, 32))
    levels = [0.1, 0.07, 0.05]
    settings = {"sigma_denoiser": levels, "stepsize": [(s / sigma) ** 2 / 0.23 for s in levels], "max_iter": 3}
    model = dinv.optim.HQS(
        data_fidelity=dinv.optim.L2(), prior=dinv.optim.PnP(denoiser_to_deepinv(network)), early_stop=False, **settings
    )
    with torch.no_grad():
        theirs = model(y, to_deepinv(operator), init=y)
    x, problem = y, Problem(operator, Gaussian(sigma=sigma), y)
    with torch.no_grad():
        for s in levels:
            x = network(problem.prox(x, s**2 / 0.23), s)
    assert torch.allclose(theirs, x, atol=1e-4)


def test_a_deepinv_denoiser_in_our_solver():
    import deepinv as dinv

    theirs = dinv.models.MedianFilter()
    prior = denoiser_from_deepinv(theirs, Domain((1, None, None), value_range=(0.0, 1.0)))
    x = torch.rand(1, 1, 16, 16)
    assert torch.equal(prior(x, 0.1), theirs(x, 0.1))
    problem = Problem(Inpainting(mask=torch.ones(1, 16, 16)), Gaussian(sigma=0.1), x)
    assert solve(problem, prior, HQS(n_steps=2)).calls["prior"] == 2


def test_round_trips_give_the_original_numbers():
    ours = UNetDenoiser(weights="digits")
    again = denoiser_from_deepinv(denoiser_to_deepinv(ours), ours.domain)
    x = torch.rand(2, 1, 28, 28)
    assert torch.equal(again(x, torch.tensor([0.1, 0.3])), ours(x, torch.tensor([0.1, 0.3])))
    blur = Blur(kernel=make("gaussian_kernel", size=3, std=1.0), shape=(1, 8, 8))
    back, _ = from_deepinv(to_deepinv(blur))
    z = torch.rand(1, 1, 8, 8)
    assert torch.equal(back(z), blur(z)) and torch.equal(back.adjoint(z), blur.adjoint(z))


def test_levels_beyond_the_denoisers():
    """Their samplers' paths begin at more noise than a network was trained for."""
    ours = UNetDenoiser(weights="digits")
    low, high = ours.domain.sigma_range
    theirs, strict = denoiser_to_deepinv(ours, beyond="nearest"), denoiser_to_deepinv(ours)
    x = torch.rand(2, 1, 28, 28)
    assert torch.equal(theirs(x, torch.tensor(0.3)), ours(x, 0.3))
    assert torch.equal(theirs(x, low / 2), ours(x, low))
    assert torch.allclose(theirs(x, 4 * high), ours(0.5 + (x - 0.5) / 4, high), atol=1e-5)
    with pytest.raises(CapabilityError, match="outside the range"):
        strict(x, 4 * high)
    with pytest.raises(CapabilityError, match="no value range"):
        denoiser_to_deepinv(UNetDenoiser(weights="brain_mri"), beyond="nearest")


def test_a_deepinv_sampler_with_our_prior():
    import deepinv as dinv

    operator = Inpainting(mask=make("random_mask", shape=(1, 28, 28), fraction=0.5, seed=0))
    x = UNetDenoiser(weights="digits")(torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0)), 1.0)
    y = Gaussian(sigma=0.05).sample(operator(x), torch.Generator().manual_seed(1))
    network = denoiser_to_deepinv(UNetDenoiser(weights="digits"), beyond="nearest")
    method = dinv.sampling.DiffPIR(network, dinv.optim.data_fidelity.L2(), sigma=0.05, max_iter=100, lambda_=1.0)
    torch.manual_seed(0)
    found = method(y, to_deepinv(operator, Gaussian(sigma=0.05)))
    assert float((found - x).square().mean()) < 0.6 * float((y - x).square().mean())
