"""PGD, FISTA, PDHG, the closed-form TV solver and MLEM against independent solutions."""

import numpy as np
import pytest
import torch
from scipy import optimize

from pnpkit import make
from pnpkit.errors import CapabilityError, DataError, SpecError
from pnpkit.likelihoods import Gaussian, Poisson
from pnpkit.operators import Blur, Identity
from pnpkit.priors import L1, TV, Box, ClosedFormTV, L1Wavelet, Tikhonov
from pnpkit.priors.sum_prior import SumPrior
from pnpkit.problem import Problem
from pnpkit.solvers import ADMM, FISTA, MLEM, PDHG, PGD, ClosedFormTVAPG
from pnpkit.solvers.base import solve

from .toys import Unstable, counts, dense, flat, least_squares, objective, relative, rng

SHAPE = (1, 12, 10)
SOLVERS = [PGD(n_steps=4000), FISTA(n_steps=800), PDHG(n_steps=4000), ADMM(n_steps=1500)]


def blurred(sigma: float = 0.1) -> Problem:
    operator = Blur(kernel=make("gaussian_kernel", size=5, std=0.8).double(), shape=SHAPE)
    likelihood = Gaussian(sigma=sigma).double()
    x = torch.rand(2, *SHAPE, dtype=torch.float64, generator=rng(1)).round()
    return Problem(operator, likelihood, likelihood.sample(operator(x), rng(2)))


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
def test_sparse_least_squares_is_scipys(solver):
    """min ½‖(A x − y)/σ‖² + w‖x‖₁ by L-BFGS-B on x = p − q, p, q ≥ 0."""
    problem, weight = least_squares("element"), 2.0
    a, y = problem.operator.entries.numpy(), problem.y.numpy()
    s = problem.likelihood.std(problem.y).expand(problem.y.shape).numpy()
    wanted = []
    for b in range(len(y)):

        def value(pq, b=b):
            p, q = np.split(pq, 2)
            r = (a @ (p - q) - y[b]) / s[b]
            g = a.T @ (r / s[b])
            return 0.5 * r @ r + weight * pq.sum(), np.concatenate([g + weight, weight - g])

        start = np.zeros(2 * a.shape[1])
        found = optimize.minimize(
            value, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(start), options={"ftol": 1e-15}
        )
        wanted.append(np.subtract(*np.split(found.x, 2)))
    x = solve(problem, L1(weight=weight), solver).x
    assert relative(flat(x), np.stack(wanted)) < 1e-4


@pytest.mark.parametrize(
    "solver", [PGD(n_steps=3), FISTA(n_steps=30), ADMM(n_steps=60), PDHG(n_steps=4000)], ids=lambda s: type(s).__name__
)
def test_denoising_is_the_prox(solver):
    """With A = I the minimiser of nll + h is prox of sigma²·h at y."""
    y = torch.rand(2, *SHAPE, dtype=torch.float64, generator=rng())
    problem = Problem(Identity(shape=SHAPE).double(), Gaussian(sigma=0.3).double(), y)
    prior = TV(weight=1.5, tol=1e-8, max_iter=5000)
    wanted = prior.prox(y, 0.09)
    assert float((solve(problem, prior, solver).x - wanted).abs().max()) < 5e-4


def test_all_agree_on_tv_and_on_wavelets():
    problem = blurred()
    exact_prox = [PGD(n_steps=200), FISTA(n_steps=100), PDHG(n_steps=4000), ADMM(n_steps=100)]
    for prior, solvers in (
        (TV(weight=4.0, tol=1e-7, max_iter=3000), exact_prox),
        (L1Wavelet(weight=4.0, wavelet="haar", levels=1), SOLVERS),
    ):
        values = torch.stack([objective(problem, prior, solve(problem, prior, s).x) for s in solvers])
        assert float(((values - values.amin(0)) / values.amin(0)).max()) < 1e-5


def test_several_priors_at_once_meet_their_optimality_conditions():
    """TV + ‖·‖²/2 + box by PDHG: no feasible neighbour is better, and the box holds."""
    problem = blurred()
    prior = SumPrior(priors=(TV(weight=3.0), Tikhonov(weight=2.0), Box(low=0.2, high=0.9)))
    x = solve(problem, prior, PDHG(n_steps=20000)).x
    inside = x.clamp(0.2, 0.9)
    assert float((x - inside).abs().max()) < 1e-6
    best = objective(problem, prior, inside)
    for seed in range(20):
        step = torch.randn(x.shape, dtype=x.dtype, generator=rng(seed))
        for size in (1e-1, 1e-2, 1e-3):
            other = (inside + size * step).clamp(0.2, 0.9)
            assert bool((objective(problem, prior, other) >= best * (1 - 1e-9)).all())


def test_closed_form_tv_error_falls_with_the_step():
    problem = blurred()
    exact = solve(problem, TV(weight=4.0), PDHG(n_steps=8000)).x
    errors = []
    for step, n in ((1.0, 200), (0.1, 1000), (0.01, 4000)):
        x = solve(problem, ClosedFormTV(weight=4.0), ClosedFormTVAPG(n_steps=n, relative_step=step)).x
        errors.append(float((x - exact).norm() / exact.norm()))
    assert errors[0] > 3 * errors[1] > 9 * errors[2] and errors[2] < 0.01


def test_closed_form_tv_solver_refuses_the_exact_tv():
    with pytest.raises(CapabilityError, match="closed_form_tv"):
        solve(blurred(), TV(weight=1.0), ClosedFormTVAPG())


def test_a_restart_helps_where_momentum_oscillates():
    problem, prior = blurred(0.5), Tikhonov(weight=0.5)
    wanted = solve(problem, prior, PGD(n_steps=20000)).x
    errors = [float((solve(problem, prior, FISTA(n_steps=150, restart=on)).x - wanted).norm()) for on in (True, False)]
    assert errors[0] < errors[1]


# --- counts ---


def test_mlem_is_the_maximum_of_the_likelihood_and_never_rises():
    problem = counts(n=2)
    result = solve(problem, None, MLEM(n_steps=20000))
    nll = result.info["nll"]
    assert bool((nll[1:] <= nll[:-1] + 1e-9 * nll[:-1].abs()).all())
    a, y = problem.operator.entries.numpy(), problem.y.numpy()
    for b in range(2):

        def value(x, b=b):
            rate = 50 * (a @ x) + 2
            return (rate - y[b] * np.log(rate)).sum(), 50 * a.T @ (1 - y[b] / rate)

        found = optimize.minimize(value, np.ones(12), jac=True, method="L-BFGS-B", bounds=[(0, None)] * 12)
        assert float(value(flat(result.x)[b])[0]) <= found.fun + 1e-6 * abs(found.fun)


@pytest.mark.parametrize("solver", [PDHG(n_steps=20000), FISTA(n_steps=4000), PGD(n_steps=8000)])
def test_counts_in_a_box_agree_with_mlem(solver):
    problem = counts(n=2)
    wanted = problem.nll(solve(problem, None, MLEM(n_steps=20000)).x)
    found = problem.nll(solve(problem, Box(low=0.0), solver).x.clamp_min(0))
    assert float(((found - wanted) / wanted.abs()).abs().max()) < 1e-5


def test_one_em_step_by_hand():
    """x+ = x/Aᵀ1 · Aᵀ(gain·y/(gain·A x + b))/gain for A = [[1, 0], [1, 2]], x = 1."""
    operator = dense(shape=(1, 1, 2), rows=2, positive=True).at(
        entries=torch.tensor([[1.0, 0.0], [1.0, 2.0]], dtype=torch.float64)
    )
    problem = Problem(operator, Poisson(gain=2.0, background=1.0).double(), torch.tensor([[6.0, 14.0]]).double())
    x = solve(problem, None, MLEM(n_steps=1), x0=torch.ones(1, 1, 1, 2, dtype=torch.float64)).x
    # rates 2·1 + 1 = 3 and 2·3 + 1 = 7; ratios 2 and 2; Aᵀ ratio = (4, 4), Aᵀ1 = (2, 2)
    assert torch.allclose(x.flatten(), torch.tensor([2.0, 2.0], dtype=torch.float64))


def test_ordered_subsets_are_faster_at_first():
    """Two passes over the data: six steps with a third of it each, or two with all of it."""
    problem = counts(n=1, gain=1000.0)
    fine = float(problem.nll(solve(problem, None, MLEM(n_steps=5000)).x))
    plain = float(problem.nll(solve(problem, None, MLEM(n_steps=2)).x)) - fine
    subsets = float(problem.nll(solve(problem, None, MLEM(n_steps=6, subsets=3)).x)) - fine
    assert 0 < subsets < plain


def test_mlem_says_what_it_cannot_do():
    with pytest.raises(CapabilityError, match="negative entries"):
        solve(_counts_of_a_signed_operator(), None, MLEM())
    problem = counts(n=1)
    with pytest.raises(DataError, match="x0 must be ≥ 0"):
        solve(problem, None, MLEM(), x0=torch.full((1, 1, 3, 4), -1.0, dtype=torch.float64))
    with pytest.raises(SpecError, match="subsets"):
        solve(problem, None, MLEM(subsets=100))


def _counts_of_a_signed_operator() -> Problem:
    return Problem(dense(), Poisson(gain=1.0, background=1.0).double(), torch.ones(1, 18, dtype=torch.float64))


# --- plug and play ---


def test_pnp_needs_a_strength():
    for solver in (PGD(), FISTA()):
        with pytest.raises(SpecError, match=r"sigma=.*estimate_sigma"):
            solve(blurred(), Unstable(), solver)


def test_samples_that_diverge_are_flagged_one_by_one():
    y = torch.stack([torch.zeros(SHAPE), torch.ones(SHAPE)]).double()
    problem = Problem(Identity(shape=SHAPE).double(), Gaussian(sigma=0.1).double(), y)
    prior = Unstable().double()
    prior.domain = prior.domain.__class__(dtype=torch.float64)
    result = solve(problem, prior, PGD(n_steps=30, sigma=0.1, relative_step=0.5))
    assert result.finite.tolist() == [True, False] and bool(torch.isfinite(result.x).all())
    assert torch.allclose(result.x[0], y[0], atol=1e-6)
