"""HQS, ADMM and the RED family with a linear denoiser, whose fixed points are known in closed form."""

import pytest
import torch

from pnpkit.errors import CapabilityError
from pnpkit.likelihoods import Gaussian, Poisson
from pnpkit.linalg import dense
from pnpkit.operators import Blur, PhaseRetrieval
from pnpkit.priors.base import Denoiser, Domain
from pnpkit.problem import Problem
from pnpkit.registry import make
from pnpkit.solvers import ADMM, HQS, RED, REDADMM, REDAccelerated, REDFixedPoint
from pnpkit.solvers.base import solve
from pnpkit.solvers.schedules import log_spaced
from pnpkit.solvers.steps import injected

SHAPE = (1, 8, 8)


class Smooth(Denoiser):
    """D(x) = W x with a symmetric W of eigenvalues in [0.4, 1]; does not depend on sigma."""

    domain = Domain(dtype=torch.float64, sigma_range=(0.05, 0.3))

    def _denoise(self, x, sigma):
        return 0.7 * x + 0.15 * (x.roll(1, -1) + x.roll(-1, -1))


class Wiener(Denoiser):
    """The exact denoiser of white Gaussian pixels of variance 1: shrinkage by 1/(1 + sigma²)."""

    domain = Domain(dtype=torch.float64)

    def _denoise(self, x, sigma):
        return x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)


@pytest.fixture
def problem():
    rng = torch.Generator().manual_seed(0)
    operator = Blur(kernel=make("gaussian_kernel", size=5, std=0.5).double(), shape=SHAPE)
    likelihood = Gaussian(torch.tensor(0.1, dtype=torch.float64))
    x = torch.randn(2, *SHAPE, dtype=torch.float64, generator=rng)
    return Problem(operator, likelihood, likelihood.sample(operator(x), rng))


def red_solution(problem: Problem, lam: float) -> torch.Tensor:
    """(AᵀA/σ² + w(I − W)) x = Aᵀy/σ², w = lam·L as sigma is the noise level, L^(−1/2)."""
    a = dense(problem.operator._forward, SHAPE, torch.float64)
    w = dense(lambda v: Smooth()._denoise(v, None), SHAPE, torch.float64)
    weight = lam * float(problem.lipschitz[0])
    left = a.T @ a / 0.01 + weight * (torch.eye(64, dtype=torch.float64) - w)
    return torch.linalg.solve(left, (problem.y.flatten(1) @ a / 0.01).T).T.reshape(problem.y.shape)


@pytest.mark.parametrize(
    "solver",
    [
        RED(n_steps=3000, lam=2.0),
        REDFixedPoint(n_steps=1500, lam=2.0),
        REDAccelerated(n_steps=800, lam=2.0),
        REDADMM(n_steps=1500, lam=2.0),
        REDADMM(n_steps=800, lam=2.0, inner=3),
    ],
    ids=lambda s: type(s).__name__,
)
def test_red_reaches_its_fixed_point(problem, solver):
    reference = red_solution(problem, 2.0)
    x = solve(problem, Smooth(), solver).x
    assert float((x - reference).norm() / reference.norm()) < 1e-3


def test_hqs_with_a_constant_schedule_is_alternating_minimisation(problem):
    """With D the prox of ‖x‖²/2, x solves min nll + ρ/2‖x − z‖², z = x/(1 + s²): its limit is linear algebra."""
    s, lam = 0.5, 0.4
    x = solve(problem, Wiener(), HQS(n_steps=400, sigma_start=s, sigma_end=s, lam=lam)).x
    a = dense(problem.operator._forward, SHAPE, torch.float64)
    eye, rho = torch.eye(64, dtype=torch.float64), lam / s**2
    left = a.T @ a / 0.01 + rho * eye - rho / (1 + s**2) * eye
    v = torch.linalg.solve(left, (problem.y.flatten(1) @ a / 0.01).T).T.reshape(problem.y.shape)
    assert torch.allclose(x, v / (1 + s**2), atol=1e-6)


def test_admm_with_the_wiener_denoiser_is_the_map_estimate(problem):
    """D at s is the prox of s²·‖x‖²/2, so PnP-ADMM minimises nll + lam·‖x‖²/2 (t = s²/lam)."""
    lam = 0.4
    x = solve(problem, Wiener(), ADMM(n_steps=3000, sigma=0.5, lam=lam)).x
    a = dense(problem.operator._forward, SHAPE, torch.float64)
    left = a.T @ a / 0.01 + lam * torch.eye(64, dtype=torch.float64)
    reference = torch.linalg.solve(left, (problem.y.flatten(1) @ a / 0.01).T).T.reshape(problem.y.shape)
    assert float((x - reference).norm() / reference.norm()) < 1e-6


def test_schedule_is_fitted_to_the_denoiser_and_recorded(problem):
    result = solve(problem, Smooth(), HQS(n_steps=5, sigma_start=3.0, sigma_end=1e-4))
    sigma = result.info["sigma"][:, 0]
    assert float(sigma[0]) == pytest.approx(0.3) and float(sigma[-1]) == pytest.approx(0.05)
    assert torch.allclose((sigma[1:] / sigma[:-1]), (sigma[1] / sigma[0]).expand(4))


@pytest.mark.parametrize(
    "solver",
    [
        HQS(n_steps=7),
        ADMM(n_steps=7),
        RED(n_steps=7),
        REDFixedPoint(n_steps=7),
        REDADMM(n_steps=7),
        REDAccelerated(n_steps=7),
    ],
    ids=lambda s: type(s).__name__,
)
def test_one_denoising_a_step_and_none_thrown_away(problem, solver):
    assert solve(problem, Smooth(), solver).calls["prior"] == 7


def test_capabilities(problem):
    counts = Problem(problem.operator, Poisson(), problem.y.abs())
    phase = PhaseRetrieval(shape=SHAPE).to(torch.float64)
    magnitudes = Problem(phase, Gaussian(0.1), phase(problem.y))
    for solver in (HQS(), ADMM(), RED(), REDFixedPoint(), REDAccelerated(), REDADMM()):
        with pytest.raises(CapabilityError, match="likelihood"):
            solve(counts, Smooth(), solver)
        with pytest.raises(CapabilityError, match="linear"):
            solve(magnitudes, Smooth(), solver)
        with pytest.raises(CapabilityError, match="prior"):
            solve(problem, None, solver)


def test_log_spacing():
    first, last = torch.tensor([1.0, 2.0]), torch.tensor([0.01, 2.0])
    values = log_spaced(first, last, 3)
    assert torch.allclose(values, torch.tensor([[1.0, 2.0], [0.1, 2.0], [0.01, 2.0]]))
    assert torch.equal(log_spaced(first, last, 1), last[None])


@pytest.mark.parametrize("solver", [HQS, ADMM, RED, REDFixedPoint])
def test_injected_noise_comes_from_the_seed_and_is_off_by_default(problem, solver):
    plain, quiet = (solve(problem, Smooth(), s, seed=1).x for s in (solver(n_steps=5), solver(n_steps=5, inject=0.0)))
    assert torch.equal(plain, quiet)
    a, b, c = (solve(problem, Smooth(), solver(n_steps=5, inject=1.0), seed=s).x for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c) and not torch.equal(a, plain)


def test_injected_noise_has_the_denoiser_s_sigma(problem):
    """What D is called on is z + sigma·n: with D the identity the step shows n itself."""
    z = torch.zeros(2, 1, 100, 100, dtype=torch.float64)
    sigma = torch.tensor([0.5, 2.0], dtype=torch.float64)
    out = injected(z, sigma, 0.5, torch.Generator().manual_seed(0))
    assert torch.allclose(out.flatten(1).std(1), 0.5 * sigma, rtol=0.03)
    assert injected(z, sigma, 0.0, torch.Generator()) is z
