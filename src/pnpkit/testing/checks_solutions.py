"""Checks on what solvers claim: that they minimise nll + value, or sample the posterior."""

from collections.abc import Callable, Iterator

import torch

from pnpkit.likelihoods import Gaussian, Poisson
from pnpkit.linalg import inner
from pnpkit.metrics import uncertainty
from pnpkit.operators.base import LinearOperator
from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver
from pnpkit.testing.cases import (
    Case,
    case_for,
    noise_of,
    run_case,
    with_settings,
)
from pnpkit.testing.core import Skip, check
from pnpkit.testing.measure import (
    expect,
    generator,
    randn,
)
from pnpkit.testing.probes import as_real, matrix
from pnpkit.testing.problems import IsotropicGaussian, IsotropicPosterior, Quadratic, Sparse, mixing_problem


@check("solvers", Solver)
def check_minimiser_certificate(solver: Solver) -> None:
    """Solvers that minimise reach the minimum of nll + value: against linear algebra, or a reference of our own.

    With a smooth and, where a prox is taken, a non-smooth prior; real and complex; and no random step is better.
    """
    if not solver.minimises:
        raise Skip("does not claim to minimise nll + value")
    long = with_settings(solver, n_steps=3000, tol=1e-9)
    for label, case in _certificate_cases(solver):
        start = case.problem.initial(generator())
        start = start.abs() if noise_of(solver) == "poisson" else start
        least = _objective(case, _reference(case))
        x = run_case(long, case).x
        gap = float(((_objective(case, x) - least) / (_objective(case, start) - least).clamp_min(1e-12)).max())
        expect(
            gap <= 1e-5,
            f"{label}: nll + value is above its minimum by {gap:.1e} of the start's excess, expected ≤ 1e-5",
        )
        _expect_no_better_neighbour(case, x, label)


def _certificate_cases(solver: Solver) -> Iterator[tuple[str, Case]]:
    case = case_for(solver, torch.float64)
    yield "smooth", case
    if isinstance(case.prior, Quadratic):
        yield "non-smooth", Case(case.problem, Sparse().double())
    if noise_of(solver) == "gaussian" and (case.prior is None or isinstance(case.prior, Quadratic)):
        problem = mixing_problem(dtype=torch.complex128)
        yield "complex", Case(problem, case.prior)


def _objective(case: Case, x: torch.Tensor) -> torch.Tensor:
    value = case.problem.nll(x)
    return value if case.prior is None else value + case.prior.value(x)  # type: ignore[operator]


def _reference(case: Case) -> torch.Tensor:
    """The minimiser: by linear algebra where everything is quadratic, else by proximal or projected gradients."""
    problem, prior = case.problem, case.prior
    if isinstance(problem.likelihood, Gaussian) and (prior is None or isinstance(prior, Quadratic)):
        a, sigma = _linear_gaussian(problem)
        a = a / sigma
        weight, mean = (0.0, 0.0) if prior is None else (prior.weight, prior.mean)
        centre = as_real(torch.full_like(problem.initial(), mean))
        left = a.T @ a + weight * torch.eye(a.shape[1], dtype=a.dtype)
        right = as_real(problem.y) / sigma @ a + weight * centre
        return _from_real(torch.linalg.solve(left, right.T).T, problem)
    prox = (lambda z, t: z.clamp_min(0)) if prior is None else (lambda z, t: prior.prox(z, t))  # type: ignore[union-attr]
    return _accelerated(problem, prox)


def _linear_gaussian(problem: Problem) -> tuple[torch.Tensor, torch.Tensor]:
    """The operator as a real matrix, and sigma."""
    assert isinstance(problem.operator, LinearOperator) and isinstance(problem.likelihood, Gaussian)
    a = matrix(problem.operator)
    assert a is not None
    return a, problem.likelihood.std(problem.y).flatten()[0]


def _from_real(flat: torch.Tensor, problem: Problem) -> torch.Tensor:
    flat = torch.view_as_complex(flat.reshape(len(flat), -1, 2)) if problem.in_dtype.is_complex else flat
    return flat.reshape(len(flat), *problem.in_shape)


def _accelerated(problem: Problem, prox: Callable, n_steps: int = 4000) -> torch.Tensor:
    """Accelerated proximal gradients with a backtracked step and restarts: slow, plain, independent."""
    x = z = problem.initial(generator()).abs()
    t, step = 1.0, 1.0
    for _ in range(n_steps):
        value, g = problem.nll(z).sum(), problem.grad(z)
        while True:
            new = prox(z - step * g, step)
            d = new - z
            bound = value + inner(g, d).sum() + inner(d, d).sum() / (2 * step)
            try:
                small = bool(problem.nll(new).sum() <= bound + 1e-12 * bound.abs())
            except ValueError:  # counts below zero: the step was too long
                small = False
            if small:
                break
            step = step / 2
        if float(inner(z - new, new - x).sum()) > 0:
            t, z, x = 1.0, new, new
            continue
        following = (1 + (1 + 4 * t * t) ** 0.5) / 2
        ahead = new + (t - 1) / following * (new - x)
        z, x, t = (ahead if not isinstance(problem.likelihood, Poisson) else ahead.clamp_min(0)), new, following
    return x


def _expect_no_better_neighbour(case: Case, x: torch.Tensor, label: str) -> None:
    here = _objective(case, x)
    for seed in range(3):
        for size in (1e-1, 1e-2, 1e-3):
            other = x + size * x.abs().mean() * randn(x.shape, x.dtype, 24 + seed)
            other = other.clamp_min(0) if isinstance(case.problem.likelihood, Poisson) else other
            gain = float(((here - _objective(case, other)) / here.abs().clamp_min(1e-12)).max())
            expect(gain <= 1e-6, f"{label}: a random step of {size:g} lowers nll + value by {gain:.1e}")


@check("solvers", Solver)
def check_posterior_moments(solver: Solver) -> None:
    """Solvers that sample give the exact posterior's mean and covariance, Gaussian prior and data, 4000 chains."""
    if not solver.exact:
        raise Skip("does not claim the exact posterior")
    case = case_for(solver, torch.float64, n=1)
    n = 4000
    x = as_real(run_case(solver, case, seed=7, chains=n).samples.unflatten(0, (n, -1))[:, -1, 0])
    mean, covariance = _posterior(case)
    error = (x.mean(0) - mean) / (covariance.diagonal() / n).sqrt()
    expect(float(error.abs().max()) <= 6, f"posterior mean is off by {float(error.abs().max()):.1f} standard errors")
    root = torch.linalg.cholesky(torch.linalg.inv(covariance))
    white = torch.cov(((x - mean) @ root).T)
    gap = float(torch.linalg.matrix_norm(white - torch.eye(len(white), dtype=white.dtype), ord=2))
    limit = 3 * (len(white) / n) ** 0.5
    low, high = uncertainty.interval(x, 0.9)
    spread = torch.distributions.Normal(mean, covariance.diagonal().sqrt())
    inside = float((spread.cdf(high) - spread.cdf(low)).mean())
    expect(0.88 <= inside <= 0.92, f"intervals of 90 % hold {100 * inside:.1f} % of the posterior")
    expect(
        gap <= limit, f"whitened sample covariance differs from the identity by {gap:.3f}, expected at most {limit:.3f}"
    )


@check("solvers", Solver)
def check_samples_follow_the_data(solver: Solver) -> None:
    """The mean of samplers' draws goes with the exact posterior mean (correlation ≥ 0.9), 500 chains, defaults."""
    if not solver.samples:
        raise Skip("does not claim to sample")
    case = case_for(solver, torch.float64, n=1)
    mean, _ = _posterior(case)
    found = as_real(run_case(solver, case, seed=8, chains=500).x)[0]
    correlation = float(torch.corrcoef(torch.stack([found, mean]))[0, 1])
    expect(correlation >= 0.9, f"the mean of the draws has correlation {correlation:.3f} with the posterior mean")


def _posterior(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of the Gaussian posterior, for the reference priors."""
    prior, (a, sigma) = case.prior, _linear_gaussian(case.problem)
    if isinstance(prior, Quadratic):
        precision, mean = prior.weight, prior.mean
    elif isinstance(prior, IsotropicGaussian | IsotropicPosterior):
        precision, mean = prior.std**-2, prior.mean
    else:
        raise Skip(f"the suite knows no exact posterior for the prior {type(prior).__name__}")
    covariance = torch.linalg.inv(a.T @ a / sigma**2 + precision * torch.eye(a.shape[1], dtype=a.dtype))
    return covariance @ (a.T @ case.problem.y[0] / sigma**2 + precision * mean), covariance
