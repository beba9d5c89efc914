"""Checks on how solvers run: shapes, purity, reproducibility, stopping, resuming, units, capabilities."""

import dataclasses
import pickle
import tempfile
from pathlib import Path
from typing import Any

import torch

from pnpkit import linalg, spec
from pnpkit.errors import CapabilityError, ShapeError, SpecError
from pnpkit.likelihoods import Gaussian, Poisson
from pnpkit.linalg import inner
from pnpkit.operators.in_theta import InTheta
from pnpkit.priors.base import Priors
from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver, iterate, missing, solve
from pnpkit.testing.cases import (
    case_for,
    is_random,
    noise_of,
    prior_for,
    run_case,
    tensors_of,
    wanted_of,
    with_settings,
)
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
from pnpkit.testing.problems import IsotropicPosterior, Quadratic

KNOWN_NEEDS = ("operator", "prior", "likelihood")

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
        expect_raises(SpecError, lambda n=n: with_settings(solver, n_steps=n), f"n_steps = {n!r}")


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
            case = case_for(solver, dtype)
            result = run_case(with_settings(solver, n_steps=n_steps), case)
            wanted = (case.problem.batch, *case.problem.in_shape)
            same = (tuple(result.x.shape), result.x.dtype) == (wanted, dtype)
            expect(same, f"x is {tuple(result.x.shape)} {result.x.dtype}, expected {wanted} {dtype}")
            expect(bool(result.finite.all()), f"samples diverged after {n_steps} step(s) on a well-posed problem")


@check("solvers", Solver)
def check_alternatives(solver: Solver) -> None:
    """Everything that ``needs`` admits works: every noise model and kind of prior, and non-linear operators."""
    short = with_settings(solver, n_steps=3)
    for noise in sorted(wanted_of(solver, "likelihood") & {"gaussian", "poisson"}) or [noise_of(solver)]:
        for offer in sorted(wanted_of(solver, "prior") & {"prox", "denoise", "posterior_denoise"}) or [None]:
            result = run_case(short, case_for(solver, noise=noise, offer=offer))
            expect(bool(result.finite.all()), f"diverged with {noise} noise and a prior that offers {offer}")
    if "linear" in wanted_of(solver, "operator") or noise_of(solver) == "poisson":
        return
    bent, prior = InTheta.example(), prior_for(solver)
    problem = Problem(bent, Gaussian(sigma=0.1), bent(randn((3, *bent.in_shape), bent.in_dtype, 25)))
    if not missing(solver, problem, prior):
        expect(bool(solve(problem, prior, short).finite.all()), "diverged with a non-linear operator")


@check("solvers", Solver)
def check_info(solver: Solver) -> None:
    """info holds real (B,) tensors, the same names at every step."""
    case = case_for(solver)
    names: list[set[str]] = []
    for step in iterate(case.problem, case.prior, with_settings(solver, n_steps=3, tol=None), generator()):
        names.append(set(step.info))
        for name, value in step.info.items():
            good = isinstance(value, torch.Tensor) and value.shape == (case.problem.batch,) and not value.is_complex()
            given = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            expect(good, f"info[{name!r}] is {given}, expected a real tensor ({case.problem.batch},)")
    expect(all(n == names[0] for n in names), f"info has other names from step to step: {names}")


@check("solvers", Solver)
def check_reproducible(solver: Solver) -> None:
    """Equal seeds give bitwise equal results, whatever the global generators hold; those are left alone."""
    case, short = case_for(solver), with_settings(solver, n_steps=4)
    with global_rng_untouched(f"{type(solver).__name__}"):
        first = run_case(short, case, seed=3).x
    expect_same(run_case(short, case, seed=3).x, first, "two runs with one seed")


@check("solvers", Solver)
def check_arguments_untouched(solver: Solver) -> None:
    """y, x0, the operator and the prior are as they were, and x shares no memory with y or x0."""
    case = case_for(solver)
    x0 = case.problem.initial(generator())
    priors = case.prior.values() if isinstance(case.prior, Priors) else [case.prior]
    parts = [p for p in (case.problem.operator, case.problem.likelihood, *priors) if p is not None]
    before = [attributes(p) for p in parts]
    with untouched(type(solver).__name__, case.problem.y, x0):
        result = run_case(with_settings(solver, n_steps=3), case, x0=x0)
    for part, old in zip(parts, before, strict=True):
        changed = differences(old, attributes(part))
        expect(not changed, f"solving changed {', '.join(changed)} of the {type(part).__name__}")
    shared = {t.untyped_storage().data_ptr() for t in (case.problem.y, x0)}
    expect(result.x.untyped_storage().data_ptr() not in shared, "x is a view of y or x0")


@check("solvers", Solver)
def check_step_is_pure(solver: Solver) -> None:
    """The same state, step number and generator give the same next state; the state given is unchanged."""
    case, short = case_for(solver), with_settings(solver, n_steps=4)
    state = short.init(case.problem, case.prior, generator(1))
    expect(isinstance(state.x, torch.Tensor), "the state has no tensor .x")
    for k in range(3):
        with untouched(f"step {k}", *tensors_of(state)):
            one, _ = short.step(case.problem, case.prior, state, k, generator(2))
        two, _ = short.step(case.problem, case.prior, state, k, generator(2))
        expect(type(one) is type(state), f"step returned a {type(one).__name__} for a {type(state).__name__}")
        for i, (a, b) in enumerate(zip(tensors_of(one), tensors_of(two), strict=True)):
            expect_same(a, b, f"tensor {i} of the state after step {k}, taken twice")
        state = one


@check("solvers", Solver)
def check_checkpoint_and_resume(solver: Solver) -> None:
    """Interrupted after two of five steps and resumed from the file: bitwise the uninterrupted run."""
    case, short = case_for(solver), with_settings(solver, n_steps=5, tol=None)
    whole = run_case(short, case, seed=4)

    def interrupt(step: Any) -> None:
        if step.k == 1:
            raise KeyboardInterrupt

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.checkpoint"
        part = run_case(short, case, seed=4, checkpoint=file, every=1, progress=interrupt)
        expect(part.stopped == "interrupted", f"an interrupted run says it stopped by {part.stopped!r}")
        resumed = run_case(short, case, seed=4, checkpoint=file, every=1)
    expect_same(resumed.x, whole.x, "x after resuming")
    expect(resumed.steps == whole.steps, f"{resumed.steps} steps after resuming, expected {whole.steps}")
    for name, values in whole.info.items():
        same = torch.equal(torch.nan_to_num(resumed.info[name]), torch.nan_to_num(values))
        expect(same, f"info[{name!r}] after resuming differs from the uninterrupted run's")


@check("solvers", Solver)
def check_warm_start(solver: Solver) -> None:
    """x0 is where it starts; one of another shape or dtype is refused."""
    case, short = case_for(solver), with_settings(solver, n_steps=2)
    x0 = 0.5 + randn((case.problem.batch, *case.problem.in_shape), case.problem.in_dtype, 21).abs()
    if not solver.samples:
        one = run_case(short, case, x0=x0).x
        expect(not torch.equal(one, run_case(short, case).x), "x0 makes no difference after two steps: it is ignored")
    expect_raises(ShapeError, lambda: run_case(short, case, x0=x0[:, :, 1:]), "x0 of another shape")
    expect_raises(ShapeError, lambda: run_case(short, case, x0=x0.double()), "x0 of another dtype")


@check("solvers", Solver)
def check_batch_of_problems(solver: Solver) -> None:
    """A batch gives what its samples give alone (where nothing is random)."""
    case, short = case_for(solver, torch.float64), with_settings(solver, n_steps=8, tol=None)
    if is_random(solver, case):
        raise Skip("is random")
    y = case.problem.y * torch.tensor([1.0, 0.1, 5.0]).double()[:, None]
    y = y.round() if noise_of(solver) == "poisson" else y
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
    plain = case_for(solver, torch.float64)
    wanted = run_case(solver, plain, seed=5)
    for c in (1e-5, 1e4):
        result = run_case(solver.scaled(c), case_for(solver, torch.float64, c=c), seed=5)
        expect_close(result.x / c, wanted.x, 1e-4, f"x for data times {c:g}, divided by {c:g}")
        expect(
            abs(result.steps - wanted.steps) <= 1,
            f"{result.steps} steps for data times {c:g}, {wanted.steps} for the data",
        )


@check("solvers", Solver)
def check_tolerance(solver: Solver) -> None:
    """A loose tol stops early and says so; without one all steps are made."""
    case = case_for(solver)
    if is_random(solver, case):
        raise Skip("is random")
    loose = run_case(with_settings(solver, n_steps=50, tol=0.9), case)
    expect(
        loose.stopped == "tol" and loose.steps < 50,
        f"tol = 0.9 stopped by {loose.stopped!r} after {loose.steps} of 50 steps",
    )
    full = run_case(with_settings(solver, n_steps=6, tol=None), case)
    expect(full.steps == 6 and full.stopped == "n_steps", f"without tol {full.steps} of 6 steps were made")


@check("solvers", Solver)
def check_capabilities(solver: Solver) -> None:
    """What ``needs`` rules out is a CapabilityError before the first step, not a crash inside it."""
    case = case_for(solver)
    problem, wants = case.problem, wanted_of(solver, "prior")
    other = None if wants else Quadratic()
    expect_raises(
        CapabilityError, lambda: solve(problem, other, solver), "no prior where one is needed, or the reverse"
    )
    if wants and "posterior_denoise" not in wants:
        posterior = IsotropicPosterior()
        expect_raises(CapabilityError, lambda: solve(problem, posterior, solver), "a posterior denoiser as prior")
    if "linear" in wanted_of(solver, "operator"):
        bent = InTheta.example()
        noise = Problem(bent, Gaussian(sigma=0.1), bent(torch.ones(2, *bent.in_shape)))
        expect_raises(CapabilityError, lambda: solve(noise, case.prior, solver), "an operator that is not linear")
    likelihoods = wanted_of(solver, "likelihood")
    if likelihoods and "poisson" not in likelihoods:
        counts = Problem(problem.operator, Poisson(), problem.y.abs())
        expect_raises(CapabilityError, lambda: solve(counts, case.prior, solver), "Poisson noise")


@check("solvers", Solver)
def check_unrolled_gradient(solver: Solver) -> None:
    """With ``grad=True`` gradients in y pass through two steps, as finite differences say, in float64."""
    case, short = case_for(solver, torch.float64), with_settings(solver, n_steps=2, tol=None)
    y, d = case.problem.y, randn(case.problem.y.shape, torch.float64, 22)
    d = d * y.abs().mean() * 0.1

    def run(data: torch.Tensor) -> torch.Tensor:
        return solve(
            Problem(case.problem.operator, case.problem.likelihood, data), case.prior, short, seed=6, grad=True
        ).x

    leaf = y.clone().requires_grad_()
    out = run(leaf)
    expect(out.requires_grad, "x carries no gradient with respect to y: something is detached or switched off")
    v = randn(out.shape, out.dtype, 23)
    (g,) = torch.autograd.grad(inner(out, v).sum(), leaf)
    h = 1e-5
    difference = (run(y + h * d) - run(y - h * d)) / (2 * h)
    given, slope = float(inner(g, d).sum()), float(inner(difference, v).sum())
    size = max(abs(slope), 0.01 * float(linalg.norm(difference).norm() * linalg.norm(v).norm()))
    expect(abs(given - slope) <= 1e-3 * size, f"gradient in y is {given:.6g}, finite differences say {slope:.6g}")
