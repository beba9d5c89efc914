"""Checks on solvers, on small problems with a known answer."""

import dataclasses
import pickle
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pnpkit import registry, spec
from pnpkit.errors import CapabilityError, ShapeError, SpecError
from pnpkit.likelihoods import Gaussian, Poisson
from pnpkit.linalg import inner
from pnpkit.operators.in_theta import InTheta
from pnpkit.priors.base import Prior
from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver, iterate, missing, solve
from pnpkit.testing.core import Skip, check
from pnpkit.testing.measure import (
    attributes,
    differences,
    expect,
    expect_close,
    expect_raises,
    expect_same,
    generator,
    global_rng_untouched,
    randn,
    rebuilt,
    untouched,
)
from pnpkit.testing.probes import as_real, matrix
from pnpkit.testing.problems import IsotropicGaussian, IsotropicPosterior, Quadratic, Sparse, mixing_problem

KNOWN_NEEDS = ("operator", "prior", "likelihood")


class Case(NamedTuple):
    """A problem and a prior that the solver's ``needs`` accept."""

    problem: Problem
    prior: Prior | None


# --- what to solve ---


def _wants(solver: Solver, subject: str) -> set[str]:
    return {option for want in solver.needs.get(subject, ()) for option in want.split("|")}


def _noise(solver: Solver) -> str:
    wants = _wants(solver, "likelihood")
    return "poisson" if wants and "gaussian" not in wants else "gaussian"


def _case(
    solver: Solver,
    dtype: torch.dtype = torch.float32,
    n: int = 3,
    c: float = 1.0,  # images (and prior) c times as large
    noise: str | None = None,
    offer: str | None = None,  # which of the alternatives for the prior
) -> Case:
    """The standard problem, made to what the solver needs."""
    if other := [s for s in solver.needs if s.startswith("prior.")]:
        raise Skip(f"needs {other[0]}, which the suite has no problem for")
    prior = _prior(solver, c, offer)
    shape = (1, 4, 4) if prior is None or type(prior).__module__.startswith("pnpkit.testing") else prior.example_shape
    problem = mixing_problem(shape, n, dtype, noise or _noise(solver))
    prior = None if prior is None else prior.to(dtype.to_real())
    if reason := missing(solver, problem, prior):
        raise Skip(f"the suite has no problem for it: {' '.join(reason)}")
    return Case(problem if c == 1.0 else problem.scaled(c), prior)


def _prior(solver: Solver, c: float = 1.0, offer: str | None = None) -> Prior | None:
    """A reference prior that provides what is needed, or a registered one, for images c times as large."""
    wants = _wants(solver, "prior")
    if not wants:
        return None
    known = {
        "prox": lambda: Quadratic(weight=2.0 / c**2, mean=0.5 * c),
        "denoise": lambda: IsotropicGaussian(mean=0.5 * c, std=0.4 * c),
        "posterior_denoise": lambda: IsotropicPosterior(mean=0.5 * c, std=0.4 * c),
    }
    for name, make in known.items():
        if name in wants and offer in (None, name):
            return make()
    for name in registry.names("priors"):
        cls = registry.get("priors", name)
        if wants & set(cls.provides):
            example = cls.example()
            scaled = {"weight": example.weight / c} if "weight" in type(example.spec).model_fields else {}
            return cls(**{**dict(example.spec), **scaled})
    raise Skip(f"no registered prior provides {' or '.join(sorted(wants))}")


def _set(solver: Solver, **changes: Any) -> Solver:
    return type(solver)(**{**dict(solver.spec), **changes})


def _run(solver: Solver, case: Case, seed: int = 0, **options: Any):
    return solve(case.problem, case.prior, solver, seed=seed, **options)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """All tensors of a state: NamedTuples, tuples, lists and dicts of them."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)


def _stochastic(solver: Solver, case: Case) -> bool:
    one, two = (_run(_set(solver, n_steps=2), case, seed).x for seed in (1, 2))
    return not torch.equal(one, two)


# --- the object ---


@check("solvers", Solver)
def check_solver_declaration(solver: Solver) -> None:
    """A frozen dataclass with n_steps and tol, and ``needs`` in the words that compose understands."""
    cls = type(solver)
    expect(dataclasses.is_dataclass(cls), f"{cls.__name__} is not a dataclass")
    frozen = getattr(cls, "__dataclass_params__").frozen  # noqa: B009
    expect(frozen, f"{cls.__name__} is not frozen: hyper-parameters must not change")
    known = set(KNOWN_NEEDS)
    bad = [s for s in solver.needs if s not in known and not s.startswith("prior.")]
    expect(not bad, f"needs has unknown subjects {bad}; known: {sorted(known)} and 'prior.<theta>'")
    for n in (0, -1, 2.5, "3", True):
        expect_raises(SpecError, lambda n=n: _set(solver, n_steps=n), f"n_steps = {n!r}")


@check("solvers", Solver)
def check_solver_round_trip(solver: Solver) -> None:
    """Saved to JSON and rebuilt, and pickled: an equal solver with an equal digest."""
    again, revived = rebuilt(solver), pickle.loads(pickle.dumps(solver))
    for label, other in (("after a round trip", again), ("after pickling", revived)):
        expect(other == solver, f"{label} it is {other}, expected {solver}")
        expect(spec.digest(other) == spec.digest(solver), f"{label} its digest differs")


# --- a run ---


@check("solvers", Solver)
def check_solution_shape(solver: Solver) -> None:
    """x is finite, (B, *in_shape), in the operator's dtype, in float32 and float64, from one step on."""
    for dtype in (torch.float32, torch.float64):
        for n_steps in (1, 3):
            case = _case(solver, dtype)
            result = _run(_set(solver, n_steps=n_steps), case)
            wanted = (case.problem.batch, *case.problem.in_shape)
            same = (tuple(result.x.shape), result.x.dtype) == (wanted, dtype)
            expect(same, f"x is {tuple(result.x.shape)} {result.x.dtype}, expected {wanted} {dtype}")
            expect(bool(result.finite.all()), f"samples diverged after {n_steps} step(s) on a well-posed problem")


@check("solvers", Solver)
def check_alternatives(solver: Solver) -> None:
    """Everything that ``needs`` admits works: every noise model and kind of prior, and non-linear operators."""
    short = _set(solver, n_steps=3)
    for noise in sorted(_wants(solver, "likelihood") & {"gaussian", "poisson"}) or [_noise(solver)]:
        for offer in sorted(_wants(solver, "prior") & {"prox", "denoise", "posterior_denoise"}) or [None]:
            result = _run(short, _case(solver, noise=noise, offer=offer))
            expect(bool(result.finite.all()), f"diverged with {noise} noise and a prior that offers {offer}")
    if "linear" in _wants(solver, "operator") or _noise(solver) == "poisson":
        return
    bent, prior = InTheta.example(), _prior(solver)
    problem = Problem(bent, Gaussian(sigma=0.1), bent(randn((3, *bent.in_shape), bent.in_dtype, 25)))
    if not missing(solver, problem, prior):
        expect(bool(solve(problem, prior, short).finite.all()), "diverged with a non-linear operator")


@check("solvers", Solver)
def check_info(solver: Solver) -> None:
    """info holds real (B,) tensors, the same names at every step."""
    case = _case(solver)
    names: list[set[str]] = []
    for step in iterate(case.problem, case.prior, _set(solver, n_steps=3, tol=None), generator()):
        names.append(set(step.info))
        for name, value in step.info.items():
            good = isinstance(value, torch.Tensor) and value.shape == (case.problem.batch,) and not value.is_complex()
            given = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            expect(good, f"info[{name!r}] is {given}, expected a real tensor ({case.problem.batch},)")
    expect(all(n == names[0] for n in names), f"info has other names from step to step: {names}")


@check("solvers", Solver)
def check_reproducible(solver: Solver) -> None:
    """Equal seeds give bitwise equal results, whatever the global generators hold; those are left alone."""
    case, short = _case(solver), _set(solver, n_steps=4)
    with global_rng_untouched(f"{type(solver).__name__}"):
        first = _run(short, case, seed=3).x
    expect_same(_run(short, case, seed=3).x, first, "two runs with one seed")


@check("solvers", Solver)
def check_arguments_untouched(solver: Solver) -> None:
    """y, x0, the operator and the prior are as they were, and x shares no memory with y or x0."""
    case = _case(solver)
    x0 = case.problem.initial(generator())
    parts = [p for p in (case.problem.operator, case.problem.likelihood, case.prior) if p is not None]
    before = [attributes(p) for p in parts]
    with untouched(type(solver).__name__, case.problem.y, x0):
        result = _run(_set(solver, n_steps=3), case, x0=x0)
    for part, old in zip(parts, before, strict=True):
        changed = differences(old, attributes(part))
        expect(not changed, f"solving changed {', '.join(changed)} of the {type(part).__name__}")
    shared = {t.untyped_storage().data_ptr() for t in (case.problem.y, x0)}
    expect(result.x.untyped_storage().data_ptr() not in shared, "x is a view of y or x0")


@check("solvers", Solver)
def check_step_is_pure(solver: Solver) -> None:
    """The same state, step number and generator give the same next state; the state given is unchanged."""
    case, short = _case(solver), _set(solver, n_steps=4)
    state = short.init(case.problem, case.prior, generator(1))
    expect(isinstance(state.x, torch.Tensor), "the state has no tensor .x")
    for k in range(3):
        with untouched(f"step {k}", *_tensors(state)):
            one, _ = short.step(case.problem, case.prior, state, k, generator(2))
        two, _ = short.step(case.problem, case.prior, state, k, generator(2))
        expect(type(one) is type(state), f"step returned a {type(one).__name__} for a {type(state).__name__}")
        for i, (a, b) in enumerate(zip(_tensors(one), _tensors(two), strict=True)):
            expect_same(a, b, f"tensor {i} of the state after step {k}, taken twice")
        state = one


@check("solvers", Solver)
def check_checkpoint_and_resume(solver: Solver) -> None:
    """Interrupted after two of five steps and resumed from the file: bitwise the uninterrupted run."""
    case, short = _case(solver), _set(solver, n_steps=5, tol=None)
    whole = _run(short, case, seed=4)

    def interrupt(step: Any) -> None:
        if step.k == 1:
            raise KeyboardInterrupt

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.checkpoint"
        part = _run(short, case, seed=4, checkpoint=file, every=1, progress=interrupt)
        expect(part.stopped == "interrupted", f"an interrupted run says it stopped by {part.stopped!r}")
        resumed = _run(short, case, seed=4, checkpoint=file, every=1)
    expect_same(resumed.x, whole.x, "x after resuming")
    expect(resumed.steps == whole.steps, f"{resumed.steps} steps after resuming, expected {whole.steps}")
    for name, values in whole.info.items():
        same = torch.equal(torch.nan_to_num(resumed.info[name]), torch.nan_to_num(values))
        expect(same, f"info[{name!r}] after resuming differs from the uninterrupted run's")


@check("solvers", Solver)
def check_warm_start(solver: Solver) -> None:
    """x0 is where it starts; one of another shape or dtype is refused."""
    case, short = _case(solver), _set(solver, n_steps=2)
    x0 = 0.5 + randn((case.problem.batch, *case.problem.in_shape), case.problem.in_dtype, 21).abs()
    if not solver.samples:
        one = _run(short, case, x0=x0).x
        expect(not torch.equal(one, _run(short, case).x), "x0 makes no difference after two steps: it is ignored")
    expect_raises(ShapeError, lambda: _run(short, case, x0=x0[:, :, 1:]), "x0 of another shape")
    expect_raises(ShapeError, lambda: _run(short, case, x0=x0.double()), "x0 of another dtype")


@check("solvers", Solver)
def check_batch_of_problems(solver: Solver) -> None:
    """A batch gives what its samples give alone (where nothing is random)."""
    case, short = _case(solver, torch.float64), _set(solver, n_steps=8, tol=None)
    if _stochastic(solver, case):
        raise Skip("is random")
    y = case.problem.y * torch.tensor([1.0, 0.1, 5.0]).double()[:, None]
    y = y.round() if _noise(solver) == "poisson" else y
    problem = Problem(case.problem.operator, case.problem.likelihood, y)
    whole = solve(problem, case.prior, short).x
    for i in range(3):
        alone = solve(problem[i : i + 1], case.prior, short).x
        expect_close(whole[i : i + 1], alone, 1e-6, f"sample {i} of a batch against the same sample alone")


@check("solvers", Solver)
def check_data_scale_invariance(solver: Solver) -> None:
    """Data, prior and solver in units c times as small: c times the image, after as many steps.

    An absolute tolerance or a fixed step size shows here.
    """
    plain = _case(solver, torch.float64)
    wanted = _run(solver, plain, seed=5)
    for c in (1e-5, 1e4):
        result = _run(solver.scaled(c), _case(solver, torch.float64, c=c), seed=5)
        expect_close(result.x / c, wanted.x, 1e-4, f"x for data times {c:g}, divided by {c:g}")
        expect(abs(result.steps - wanted.steps) <= 1, f"{result.steps} steps for data times {c:g}, {wanted.steps} for the data")


@check("solvers", Solver)
def check_tolerance(solver: Solver) -> None:
    """A loose tol stops early and says so; without one all steps are made."""
    case = _case(solver)
    if _stochastic(solver, case):
        raise Skip("is random")
    loose = _run(_set(solver, n_steps=50, tol=0.9), case)
    expect(loose.stopped == "tol" and loose.steps < 50, f"tol = 0.9 stopped by {loose.stopped!r} after {loose.steps} of 50 steps")
    full = _run(_set(solver, n_steps=6, tol=None), case)
    expect(full.steps == 6 and full.stopped == "n_steps", f"without tol {full.steps} of 6 steps were made")


@check("solvers", Solver)
def check_capabilities(solver: Solver) -> None:
    """What ``needs`` rules out is a CapabilityError before the first step, not a crash inside it."""
    case = _case(solver)
    problem, wants = case.problem, _wants(solver, "prior")
    other = None if wants else Quadratic()
    expect_raises(CapabilityError, lambda: solve(problem, other, solver), "no prior where one is needed, or the reverse")
    if wants and "posterior_denoise" not in wants:
        posterior = IsotropicPosterior()
        expect_raises(CapabilityError, lambda: solve(problem, posterior, solver), "a posterior denoiser as prior")
    if "linear" in _wants(solver, "operator"):
        bent = InTheta.example()
        noise = Problem(bent, Gaussian(sigma=0.1), bent(torch.ones(2, *bent.in_shape)))
        expect_raises(CapabilityError, lambda: solve(noise, case.prior, solver), "an operator that is not linear")
    likelihoods = _wants(solver, "likelihood")
    if likelihoods and "poisson" not in likelihoods:
        counts = Problem(problem.operator, Poisson(), problem.y.abs())
        expect_raises(CapabilityError, lambda: solve(counts, case.prior, solver), "Poisson noise")


@check("solvers", Solver)
def check_unrolled_gradient(solver: Solver) -> None:
    """With ``grad=True`` gradients in y pass through two steps, as finite differences say, in float64."""
    case, short = _case(solver, torch.float64), _set(solver, n_steps=2, tol=None)
    y, d = case.problem.y, randn(case.problem.y.shape, torch.float64, 22)
    d = d * y.abs().mean() * 0.1

    def run(data: torch.Tensor) -> torch.Tensor:
        return solve(Problem(case.problem.operator, case.problem.likelihood, data), case.prior, short, seed=6, grad=True).x

    leaf = y.clone().requires_grad_()
    out = run(leaf)
    expect(out.requires_grad, "x carries no gradient with respect to y: something is detached or switched off")
    v = randn(out.shape, out.dtype, 23)
    (g,) = torch.autograd.grad(inner(out, v).sum(), leaf)
    h = 1e-5
    slope = inner(run(y + h * d) - run(y - h * d), v).sum() / (2 * h)
    given = inner(g, d).sum()
    error = abs(float(given - slope)) / max(abs(float(slope)), 1e-12)
    expect(error <= 1e-3, f"gradient in y is {float(given):.6g}, finite differences say {float(slope):.6g}")


# --- what it claims ---


@check("solvers", Solver)
def check_minimiser_certificate(solver: Solver) -> None:
    """Solvers that minimise reach the minimum of nll + value: against linear algebra, or a reference of our own.

    With a smooth and, where a prox is taken, a non-smooth prior; real and complex; and no random step is better.
    """
    if not solver.minimises:
        raise Skip("does not claim to minimise nll + value")
    long = _set(solver, n_steps=3000, tol=1e-9)
    for label, case in _certificate_cases(solver):
        start = case.problem.initial(generator())
        start = start.abs() if _noise(solver) == "poisson" else start
        least = _objective(case, _reference(case))
        x = _run(long, case).x
        gap = float(((_objective(case, x) - least) / (_objective(case, start) - least).clamp_min(1e-12)).max())
        expect(gap <= 1e-5, f"{label}: nll + value is above its minimum by {gap:.1e} of the start's excess, expected ≤ 1e-5")
        _expect_no_better_neighbour(case, x, label)


def _certificate_cases(solver: Solver) -> Iterator[tuple[str, Case]]:
    case = _case(solver, torch.float64)
    yield "smooth", case
    if isinstance(case.prior, Quadratic):
        yield "non-smooth", Case(case.problem, Sparse().double())
    if _noise(solver) == "gaussian" and (case.prior is None or isinstance(case.prior, Quadratic)):
        problem = mixing_problem(dtype=torch.complex128)
        yield "complex", Case(problem, case.prior)


def _objective(case: Case, x: torch.Tensor) -> torch.Tensor:
    value = case.problem.nll(x)
    return value if case.prior is None else value + case.prior.value(x)  # type: ignore[operator]


def _reference(case: Case) -> torch.Tensor:
    """The minimiser: by linear algebra where everything is quadratic, else by proximal or projected gradients."""
    problem, prior = case.problem, case.prior
    if isinstance(problem.likelihood, Gaussian) and (prior is None or isinstance(prior, Quadratic)):
        a = matrix(problem.operator) / problem.likelihood.sigma  # type: ignore[arg-type,operator]
        weight, mean = (0.0, 0.0) if prior is None else (prior.weight, prior.mean)
        centre = as_real(torch.full_like(problem.initial(), mean))
        left = a.T @ a + weight * torch.eye(a.shape[1], dtype=a.dtype)
        right = as_real(problem.y) / problem.likelihood.sigma @ a + weight * centre
        return _from_real(torch.linalg.solve(left, right.T).T, problem)
    prox = (lambda z, t: z.clamp_min(0)) if prior is None else (lambda z, t: prior.prox(z, t))  # type: ignore[union-attr]
    return _accelerated(problem, prox)


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
    if not solver.samples:
        raise Skip("does not claim to sample")
    case = _case(solver, torch.float64, n=1)
    n = 4000
    x = as_real(_run(solver, Case(case.problem.repeat(n), case.prior), seed=7).x)
    mean, covariance = _posterior(case)
    error = (x.mean(0) - mean) / (covariance.diagonal() / n).sqrt()
    expect(float(error.abs().max()) <= 6, f"posterior mean is off by {float(error.abs().max()):.1f} standard errors")
    root = torch.linalg.cholesky(torch.linalg.inv(covariance))
    white = torch.cov(((x - mean) @ root).T)
    gap = float(torch.linalg.matrix_norm(white - torch.eye(len(white), dtype=white.dtype), ord=2))
    limit = 3 * (len(white) / n) ** 0.5
    expect(gap <= limit, f"whitened sample covariance differs from the identity by {gap:.3f}, expected at most {limit:.3f}")


def _posterior(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    a = matrix(case.problem.operator)  # type: ignore[arg-type]
    assert a is not None and case.prior is not None
    sigma = case.problem.likelihood.sigma
    std = 1 / case.prior.weight**0.5 if isinstance(case.prior, Quadratic) else case.prior.std
    covariance = torch.linalg.inv(a.T @ a / sigma**2 + torch.eye(a.shape[1], dtype=a.dtype) / std**2)
    mean = covariance @ (a.T @ case.problem.y[0] / sigma**2 + case.prior.mean / std**2)
    return mean, covariance


