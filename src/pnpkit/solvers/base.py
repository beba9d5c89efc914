"""The solver contract, the loop the caller owns (``iterate``), and ``solve`` around it.

A solver is a frozen dataclass of hyper-parameters with two pure functions. ``init`` makes a state,
``step`` makes the next one; neither keeps anything, switches gradients off or touches a global RNG.
"""

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, Self, runtime_checkable

import torch

from pnpkit import linalg
from pnpkit.errors import CapabilityError, DivergedError, ShapeError, SpecError
from pnpkit.operators.base import Counter
from pnpkit.priors.base import Prior, PriorCounter, Priors
from pnpkit.problem import Problem
from pnpkit.seeds import stream
from pnpkit.solvers.result import Result, gathered, stacked
from pnpkit.spec import Component

Info = dict[str, torch.Tensor]
GROWN = 1e6  # a sample this many times as large as its start has diverged
AnyPrior = Prior | Priors | None


@runtime_checkable
class State(Protocol):
    """A NamedTuple of tensors, numbers and tuples of them, with the current image ``x``."""

    @property
    def x(self) -> torch.Tensor: ...


class Solver(Component):
    """Base of all solvers. Subclasses are ``@dataclass(frozen=True, kw_only=True)``.

    ``needs`` maps "operator", "prior", "prior.theta", "likelihood" to what they must provide;
    alternatives are written "prox|denoise". A solver without "prior" in ``needs`` takes none.
    """

    kind = "solvers"
    n_steps: int
    tol: float | None
    needs: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    minimises: ClassVar[bool] = False  # claims the minimiser of nll + value: the certificate is checked
    samples: ClassVar[bool] = False  # ends in draws from (an approximation of) the posterior
    exact: ClassVar[bool] = False  # claims the posterior itself: moments and coverage are checked
    scheduled: ClassVar[bool] = False  # n_steps shapes a schedule, so a checkpoint cannot be continued for longer
    expected_failures: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def init(self, problem: Problem, prior: Any, rng: torch.Generator, x0: torch.Tensor | None = None) -> Any:
        """The first state. ``x0`` is a warm start, (B, *in_shape)."""

    @abstractmethod
    def step(self, problem: Problem, prior: Any, state: Any, k: int, rng: torch.Generator) -> tuple[Any, Info]:
        """The next state and what was computed on the way, (B,) tensors: no ``.item()``, no extra call of A."""

    def keeps(self, k: int) -> bool:
        """Whether x after step k is a draw to keep: the last one, where a chain does not say more."""
        return k == self.n_steps - 1

    def shares(self, k: int) -> bool:
        """Whether the chains of a measurement take step k as one. All tensors of the state then begin with the batch.

        Neither the last step is shared, nor one after a step that is not.
        """
        return False

    def refuses(self, problem: Any) -> list[str]:
        """Capability sentences about these settings, beyond ``needs``; ``problem`` as in ``missing``."""
        return []

    def energy(self, problem: Problem, prior: Any, state: Any, rng: torch.Generator) -> torch.Tensor | None:
        """How improbable the last state of each chain is, (B,); where given, ``Result.x`` is of the best chain."""
        return None

    @classmethod
    def example(cls) -> Self:
        """A short run for the conformance suite."""
        return cls()

    def scaled(self, c: float) -> Self:
        """The same solver for images c times as large. Parameters called ``sigma…`` are in units of x and follow;
        override where others have units.
        """
        model = type(self.spec).model_fields
        sizes = {n: v for n in model if n.startswith("sigma") and isinstance(v := getattr(self, n), float)}
        return type(self)(**{**dict(self.spec), **{n: c * v for n, v in sizes.items()}})


class Step(NamedTuple):
    """One turn of ``iterate``, and all that is needed to go on from it."""

    k: int
    state: Any
    info: Info
    finite: torch.Tensor  # (B,) samples that are still in the finite range
    x: torch.Tensor  # the last finite iterate of every sample; of settled ones, that which settled
    settled: torch.Tensor  # (B,) samples whose relative change has been ≤ tol
    limit: torch.Tensor  # (B,) the norm beyond which a sample has diverged; 0 before a start at zero has moved
    done: bool = False  # every sample is settled or diverged


def missing(solver: Solver, problem: Any, prior: AnyPrior) -> list[str]:
    """Capability sentences: why this solver cannot run here; empty when it can.

    ``problem`` is a Problem, or anything with ``operator`` and ``likelihood``.
    """
    label = type(solver).__name__
    sentences = []
    for subject, wants in solver.needs.items():
        who, have = _provides(subject, problem, prior)
        for want in wants:
            if not set(want.split("|")) & set(have):
                offer = ", ".join(have) or "nothing"
                sentences.append(
                    f"{label} needs {subject} to provide {want.replace('|', ' or ')}; {who} provides {offer}."
                )
    if prior is not None and not any(s.startswith("prior") for s in solver.needs):
        sentences.append(
            f"{label} uses no prior, but {type(prior).__name__} was given; leave it out or choose another solver."
        )
    if isinstance(solver, Solver):  # not a class, which has no settings yet (``pnpkit list --fits``)
        sentences += solver.refuses(problem)
    part = prior["x"] if isinstance(prior, Priors) else prior
    operator = problem.operator
    if part is not None and (reason := part.misfit(operator.in_shape, operator.in_dtype)):
        sentences.append(f"{type(part).__name__} does not fit {type(operator).__name__}: {reason}.")
    return sentences


def _provides(subject: str, problem: Any, prior: AnyPrior) -> tuple[str, tuple[str, ...]]:
    if subject == "operator":
        return type(problem.operator).__name__, problem.operator.provides
    if subject == "likelihood":
        return type(problem.likelihood).__name__, (problem.likelihood.name,)
    name = subject.partition(".")[2] or "x"
    part = prior.get(name) if isinstance(prior, Priors) else (prior if name == "x" else None)
    return ("no prior", ()) if part is None else (type(part).__name__, part.provides)


def iterate(
    problem: Problem,
    prior: AnyPrior,
    solver: Solver,
    rng: torch.Generator,
    x0: torch.Tensor | None = None,
    start: Step | None = None,
    chains: int = 1,
) -> Iterator[Step]:
    """Run a solver; the caller owns the loop and may stop, plot or save at any step.

    ``start``, a step of an earlier run, continues that run after it. ``chains``: of a problem that holds every
    measurement so many times in a row (``Problem.repeat``); steps that they share (``Solver.shares``) are taken by the
    first of them and given to all. Ends after ``n_steps``, when every finite sample is settled, or with DivergedError
    when no sample is finite. A sample is settled once its relative change is ≤ ``tol``: its x then stays, whatever else
    is in the batch. It counts as diverged when its norm is not finite or has grown a million times beyond the start's.
    """
    if sentences := missing(solver, problem, prior):
        raise CapabilityError(" ".join(sentences))
    _check_x0(problem, x0)
    if solver.n_steps < 1:
        raise SpecError(f"{type(solver).__name__}: n_steps must be at least 1, given {solver.n_steps}.")
    now = _first(solver.init(problem, prior, rng, x0)) if start is None else start
    alone = problem[::chains] if chains > 1 else problem
    while now.k + 1 < solver.n_steps and not now.done:
        if chains > 1 and solver.shares(now.k + 1):
            now = _moved(alone, prior, solver, _rows(now, lambda v: v[::chains]), rng)
            now = _rows(now, lambda v: v.repeat_interleave(chains, 0))
        else:
            now = _moved(problem, prior, solver, now, rng)
        if not bool(now.finite.any()):
            raise DivergedError(
                f"{type(solver).__name__} diverged at step {now.k}: every sample left the finite range. Use a smaller "
                "step or a stronger data weight; the last finite iterate is in the error's .x.",
                x=now.x,
                step=now.k,
            )
        yield now


def _first(state: Any) -> Step:
    """The turn before the first: the state that ``init`` made."""
    size = linalg.norm(state.x)
    finite = torch.isfinite(size)
    return Step(-1, state, {}, finite, state.x, torch.zeros_like(finite), GROWN * size)


def _moved(problem: Problem, prior: AnyPrior, solver: Solver, now: Step, rng: torch.Generator) -> Step:
    """The turn after ``now``."""
    state, info = solver.step(problem, prior, now.state, now.k + 1, rng)
    return _next(now, state, info, solver.tol)


def _rows(step: Step, pick: Callable[[torch.Tensor], torch.Tensor]) -> Step:
    """The turn for other rows of the batch: what ``pick`` makes of every tensor."""
    state = type(step.state)(*map(pick, step.state))
    return step._replace(
        state=state,
        info={name: pick(v) for name, v in step.info.items()},
        x=state.x if step.x is step.state.x else pick(step.x),
        **{name: pick(getattr(step, name)) for name in ("finite", "settled", "limit")},
    )


def _next(last: Step, state: Any, info: Info, tol: float | None) -> Step:
    """``last`` moved on to a new state."""
    size = linalg.norm(state.x.detach())
    if tol is None and last.x is last.state.x and bool((size < last.limit).all()):  # nothing happened: the usual case
        return last._replace(k=last.k + 1, state=state, info=info, x=state.x)
    limit = torch.where(last.limit > 0, last.limit, GROWN * size)  # a start at zero: the first step sets the scale
    finite = last.finite & ((torch.isfinite(size) & (size <= limit)) | last.settled)
    follows = finite & ~last.settled
    x = state.x if bool(follows.all()) else torch.where(linalg.expand(follows, state.x), state.x, last.x)
    if tol is None:
        return Step(last.k + 1, state, info, finite, x, last.settled, limit)
    settled = last.settled | (follows & (linalg.norm(x.detach() - last.x.detach()) <= tol * size))
    return Step(last.k + 1, state, info, finite, x, settled, limit, bool((settled | ~finite).all()))


def solve(
    problem: Problem,
    prior: AnyPrior,
    solver: Solver,
    seed: int = 0,
    x0: torch.Tensor | None = None,
    progress: bool | Callable[[Step], None] = False,
    objective: bool = False,
    checkpoint: str | Path | None = None,
    every: int = 10,
    grad: bool = False,
    chains: int = 1,
) -> Result:
    """Run a solver to its end.

    chains : runs of a sampler on every measurement, side by side in one batch; independent, unless the solver lets
        them share their first steps.
    seed : of the generator passed to the solver (``seeds.stream``: not the numbers of ``manual_seed(seed)``, with which
        the data may have been simulated); the global RNG is never touched.
    progress : True for a progress bar, or a function called with every Step.
    objective : also record nll + value at every step (calls not counted as the solver's).
    checkpoint : a file written every ``every`` steps and on Ctrl-C, and resumed from when it exists and
        belongs to this very run; the finished result is bitwise that of an uninterrupted run.
    grad : keep gradients (for unrolled training); off by default.
    """
    from pnpkit.solvers.checkpoint import Checkpoint

    if every < 1:
        raise SpecError(f"every is a number of steps ≥ 1, given {every}.")
    _check_x0(problem, x0)
    problem, x0, given = _side_by_side(problem, solver, chains), _repeated(x0, chains), problem
    rng = stream(seed, problem.device)
    calls, prior_calls = Counter(), PriorCounter()
    counted = Problem(problem.operator.counted(calls), problem.likelihood, problem.y)
    counted_prior = _counted(prior, prior_calls)
    saved = Checkpoint(checkpoint, problem, prior, solver, seed, x0) if checkpoint is not None else None
    began, interrupted = time.perf_counter(), False
    with nullcontext() if grad else torch.no_grad(), _watch(progress, solver.n_steps) as watch:
        last, infos, kept = saved.load(rng, lambda: solver.init(problem, prior, rng, x0)) if saved else (None, [], [])
        mark = None  # the last whole step: what Ctrl-C in the middle of the next one goes back to
        try:
            for step in iterate(counted, counted_prior, solver, rng, x0, last, chains):
                info = dict(step.info)
                if objective:
                    info["objective"] = _objective(problem, prior, step.x)
                infos.append(info)
                if solver.samples and solver.keeps(step.k):
                    kept.append(unknowns(step))
                last, mark = step, (step, rng.get_state(), len(infos), len(kept)) if saved else None
                if saved and (step.k + 1) % every == 0:
                    saved.write(step, rng.get_state(), infos, kept)
                watch(step)
        except KeyboardInterrupt:
            if saved is None or mark is None:
                raise
            last, random, count, draws = mark
            infos, kept = infos[:count], kept[:draws]
            saved.write(last, random, infos, kept)
            interrupted = True
    assert last is not None  # n_steps ≥ 1, or a finished run was resumed
    stopped = "interrupted" if interrupted else "tol" if last.done else "n_steps"
    found = _found(problem, prior, solver, last, kept, chains, rng)
    return Result(
        **found,
        chains=chains,
        info={name: v if chains == 1 else v.unflatten(1, (-1, chains)) for name, v in stacked(infos).items()},
        steps=last.k + 1,
        stopped=stopped,
        seconds=time.perf_counter() - began,
        calls={"forward": calls.forward, "adjoint": calls.adjoint, "prox": calls.prox, "prior": prior_calls.calls},
        seed=seed,
        parts={"operator": given.operator, "likelihood": given.likelihood, "prior": prior, "solver": solver},
    )


def _found(
    problem: Problem, prior: AnyPrior, solver: Solver, last: Step, kept: list[Any], chains: int, rng: torch.Generator
) -> dict[str, Any]:
    """The fields of ``Result`` that say what was found: of samplers from the draws that were kept."""
    if not solver.samples:
        return {"x": last.x, "finite": last.finite}
    with torch.no_grad():
        energy = solver.energy(problem, prior, last.state, rng)
    return gathered(kept or [unknowns(last)], unknowns(last), last.finite, chains, energy)


def _side_by_side(problem: Problem, solver: Solver, chains: int) -> Problem:
    """Every measurement ``chains`` times in a row."""
    if chains < 1 or (chains > 1 and not solver.samples):
        raise SpecError(
            f"chains = {chains}: {type(solver).__name__} "
            + ("needs at least one." if solver.samples else "does not sample; every chain would give the same.")
        )
    return problem if chains == 1 else problem.repeat(chains)


def unknowns(step: Step) -> dict[str, torch.Tensor]:
    """What a draw consists of: the image, and the operator's parameter where the state has one."""
    return {"x": step.x} | ({"theta": step.state.theta} if hasattr(step.state, "theta") else {})


def _repeated(x0: torch.Tensor | None, chains: int) -> torch.Tensor | None:
    return x0 if x0 is None or chains == 1 else x0.repeat_interleave(chains, 0)


def _check_x0(problem: Problem, x0: torch.Tensor | None) -> None:
    if x0 is not None and (x0.shape != (problem.batch, *problem.in_shape) or x0.dtype != problem.in_dtype):
        raise ShapeError(
            f"x0 is {tuple(x0.shape)} {x0.dtype}, expected {(problem.batch, *problem.in_shape)} {problem.in_dtype}."
        )


def _counted(prior: AnyPrior, counter: PriorCounter) -> AnyPrior:
    if isinstance(prior, Priors):
        x, *rest = prior
        return Priors(x=prior[x].counted(counter), theta={n: prior[n].counted(counter) for n in rest} or None)
    return None if prior is None else prior.counted(counter)


def _objective(problem: Problem, prior: AnyPrior, x: torch.Tensor) -> torch.Tensor:
    part = prior["x"] if isinstance(prior, Priors) else prior
    z = problem.operator(x)
    inside = problem.likelihood.feasible(z)  # counts: primal-dual iterates may be below zero on their way
    value = torch.where(
        inside, problem.likelihood.nll(torch.where(linalg.expand(inside, z), z, 0), problem.y), torch.inf
    )
    return value + part.value(x) if part is not None and "prox" in part.provides and part.has_value else value  # type: ignore[attr-defined]


class _watch:
    """A progress bar, a caller's function, or nothing."""

    def __init__(self, progress: bool | Callable[[Step], None], n_steps: int):
        self.call = progress if callable(progress) else None
        self.bar = None
        if progress is True:
            from rich.progress import Progress

            self.bar = Progress(transient=True)
            self.task = self.bar.add_task("solving", total=n_steps)

    def __enter__(self) -> Self:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(self, *error) -> None:
        if self.bar is not None:
            self.bar.stop()

    def __call__(self, step: Step) -> None:
        if self.call is not None:
            self.call(step)
        if self.bar is not None:
            self.bar.update(self.task, completed=step.k + 1)
