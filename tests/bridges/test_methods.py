"""Whole methods of deepinv and sigpy as solvers, ours as a sigpy App, torchkbnufft's modules."""

import numpy as np
import pytest
import torch

import pnpkit as pk
from pnpkit.bridges.deepinv import denoiser_to_deepinv, prior_from_deepinv
from pnpkit.bridges.methods import method_from_deepinv, method_from_sigpy, to_sigpy_app
from pnpkit.bridges.torchkbnufft import from_torchkbnufft
from pnpkit.errors import ShapeError, SpecError
from pnpkit.problem import Problem
from pnpkit.solvers.base import solve


def blurred(batch=2, sigma=0.02):
    operator = pk.operators.Blur(kernel=pk.make("gaussian_kernel", size=5, std=1.0), shape=(1, 20, 16))
    x = torch.rand(batch, 1, 20, 16, generator=torch.Generator().manual_seed(0))
    noise = pk.Gaussian(sigma)
    return x, Problem(operator, noise, noise.sample(operator(x), torch.Generator().manual_seed(1)))


def test_a_deepinv_optimiser_runs_as_a_solver():
    """Tikhonov by their gradient descent is ours by CG."""
    from deepinv.optim import optim_builder
    from deepinv.optim.data_fidelity import L2
    from deepinv.optim.prior import Tikhonov

    _, problem = blurred()
    parameters = {"stepsize": 0.9, "lambda": 0.05}
    theirs = optim_builder("PGD", prior=Tikhonov(), data_fidelity=L2(), max_iter=400, params_algo=parameters)
    result = solve(problem, None, method_from_deepinv(theirs))
    # theirs: ½‖Ax − y‖² + 0.05·½‖x‖²; ours: ½‖Ax − y‖²/sigma² + weight·½‖x‖²
    prior = pk.prior({"name": "tikhonov", "weight": 0.05 / 0.02**2})
    wanted = solve(problem, prior, pk.solver({"name": "fista", "n_steps": 400}))
    assert torch.allclose(result.x, wanted.x, atol=2e-4)
    assert result.calls["forward"] > 0 and result.steps == 1


def test_a_deepinv_sampler_is_seeded_by_the_run():
    import deepinv as dinv

    x, problem = blurred(1)
    means = torch.rand(2, 1, 20, 16, generator=torch.Generator().manual_seed(5))
    prior = pk.priors.GaussianMixture(means=means, covariances=0.05 * torch.eye(320).repeat(2, 1, 1))
    theirs = denoiser_to_deepinv(prior)
    sampler = dinv.sampling.DiffPIR(theirs, data_fidelity=dinv.optim.L2(), max_iter=4, sigma=0.02)
    method = method_from_deepinv(sampler)
    before = torch.random.get_rng_state()
    first, again, other = (solve(problem, None, method, seed=s).x for s in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == x.shape


def test_a_sampler_s_variance_is_not_lost():
    _, problem = blurred()
    kept = []
    method = method_from_deepinv(lambda y, physics: (physics.A_adjoint(y), torch.ones_like(y)), keep=kept.append)
    assert torch.equal(solve(problem, None, method).x, problem.operator.adjoint(problem.y))
    assert torch.equal(kept[0], torch.ones_like(problem.y))


def test_a_method_that_returns_something_else_says_so():
    _, problem = blurred()
    with pytest.raises(ShapeError, match=r"returned \(2, 1, 4, 4\), expected \(2, 1, 20, 16\)"):
        solve(problem, None, method_from_deepinv(lambda y, physics: y[..., :4, :4]))
    with pytest.raises(SpecError, match="takes no x0"):
        solve(problem, None, method_from_deepinv(lambda y, physics: y), x0=problem.y)


def test_a_sigpy_app_runs_as_a_solver():
    """sigpy's l1-regularised least squares against our FISTA, complex."""
    import sigpy

    mask = (torch.rand(1, 12, 10, generator=torch.Generator().manual_seed(2)) > 0.4).float()
    operator = pk.operators.MRI(mask=mask, maps=torch.ones(1, 12, 10, dtype=torch.complex64))
    x = torch.randn(2, 1, 12, 10, dtype=torch.complex64, generator=torch.Generator().manual_seed(3))
    problem = Problem(operator, pk.Gaussian(1.0), operator(x))

    def build(y, linop):
        prox = sigpy.prox.L1Reg(linop.ishape, 0.3)
        return sigpy.app.LinearLeastSquares(linop, y, proxg=prox, max_iter=300, show_pbar=False)

    result = solve(problem, None, method_from_sigpy(build))
    ours = solve(problem, pk.prior({"name": "l1", "weight": 0.3}), pk.solver({"name": "fista", "n_steps": 300}))
    assert torch.allclose(result.x, ours.x, atol=1e-4)


def test_ours_runs_as_a_sigpy_app():
    _, problem = blurred(1)
    prior, solver = pk.prior({"name": "tv", "weight": 20.0}), pk.solver({"name": "pdhg", "n_steps": 30})
    app = to_sigpy_app(problem, prior, solver)
    x = app.run()
    assert isinstance(x, np.ndarray) and app.alg.iter == 30
    np.testing.assert_array_equal(x, solve(problem, prior, solver).x[0].numpy())


@pytest.mark.parametrize("name", ["TVPrior", "L1Prior", "Tikhonov", "WaveletPrior"])
def test_deepinv_priors_are_proximable(name):
    import deepinv as dinv

    if name == "WaveletPrior":
        pytest.importorskip("ptwt")
    theirs = getattr(dinv.optim, name)()
    prior = prior_from_deepinv(theirs, weight=0.5)
    z = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(prior.value(z), 0.5 * theirs(z).reshape(2))
    out = prior.prox(z, torch.tensor([0.1, 0.4]))
    for i, tau in enumerate((0.1, 0.4)):
        assert torch.allclose(out[i : i + 1], theirs.prox(z[i : i + 1], gamma=0.5 * tau), atol=1e-6)
    # a prox lowers what it minimises
    cost = lambda u: 0.5 * (u - z).square().flatten(1).sum(1) + torch.tensor([0.1, 0.4]) * prior.value(u)  # noqa: E731
    assert bool((cost(out) < cost(z)).all())


def test_a_deepinv_prior_without_a_function():
    import deepinv as dinv

    with pytest.raises(SpecError, match=r"denoiser_from_deepinv\(prior\.denoiser"):
        prior_from_deepinv(dinv.optim.PnP(denoiser=torch.nn.Identity()))


def test_torchkbnufft_modules():
    import torchkbnufft as tkbn

    omega = (torch.rand(2, 60, generator=torch.Generator().manual_seed(0)) - 0.5) * 2 * np.pi
    maps = torch.randn(3, 12, 10, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    pair = tkbn.KbNufft((12, 10)), tkbn.KbNufftAdjoint((12, 10))
    operator = from_torchkbnufft(*pair, omega, maps)
    x = torch.randn(2, 1, 12, 10, dtype=torch.complex64)
    assert operator(x).shape == (2, 3, 60) and torch.equal(operator(x), pair[0](x, omega, smaps=maps[None]))
    rows, columns = torch.arange(12) - 6, torch.arange(10) - 5
    phase = omega[0][:, None, None] * rows[:, None] + omega[1][:, None, None] * columns
    exact = torch.einsum("mhw,bchw->bcm", torch.exp(-1j * phase), x * maps)
    assert torch.linalg.norm(operator(x) - exact) < 2e-3 * torch.linalg.norm(exact)
    y = torch.randn(2, 3, 60, dtype=torch.complex64)
    left, right = (operator(x) * y.conj()).sum(), (x * operator.adjoint(y).conj()).sum()
    assert abs(left - right) < 1e-4 * abs(left)
    with pytest.raises(ShapeError, match=r"omega is \(2, M\)"):
        from_torchkbnufft(*pair, omega.T)
