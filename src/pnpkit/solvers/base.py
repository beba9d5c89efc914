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
from pnpkit.operators.base import Counter, LinearOperator
from pnpkit.priors.base import Prior, PriorCounter, Priors
from pnpkit.problem import Problem
from pnpkit.solvers.result import Result
from pnpkit.spec import Component

Info = dict[str, torch.Tensor]
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
    samples: ClassVar[bool] = False  # claims draws from the posterior: moments are checked
    expected_failures: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def init(self, problem: Problem, prior: Any, rng: torch.Generator, x0: torch.Tensor | None = None) -> Any:
        """The first state. ``x0`` is a warm start, (B, *in_shape)."""

    @abstractmethod
    def step(
        self, problem: Problem, prior: Any, state: Any, k: int, rng: torch.Generator
    ) -> tuple[Any, Info]:
        """The next state and what was computed on the way, (B,) tensors: no ``.item()``, no extra call of A."""

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
    """One turn of ``iterate``. ``finite`` (B,) tells which samples are still in the finite range."""

    k: int
    state: Any
    info: Info
    finite: torch.Tensor
    x: torch.Tensor  # the last finite iterate of every sample


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
        sentences.append(f"{label} uses no prior, but {type(prior).__name__} was given; leave it out or choose another solver.")
    part = prior["x"] if isinstance(prior, Priors) else prior
    operator = problem.operator
    if part is not None and (reason := part.misfit(operator.in_shape, operator.in_dtype)):
        sentences.append(f"{type(part).__name__} does not fit {type(operator).__name__}: {reason}.")
    return sentences


def _provides(subject: str, problem: Any, prior: AnyPrior) -> tuple[str, tuple[str, ...]]:
    if subject == "operator":
        return type(problem.operator).__name__, ("linear",) if isinstance(problem.operator, LinearOperator) else ("non-linear",)
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
    start: tuple[int, Any] | None = None,
) -> Iterator[Step]:
    """Run a solver; the caller owns the loop and may stop, plot or save at any step.

    ``start`` = (k, state) continues an earlier run. Ends after ``n_steps``, when the relative change of
    every finite sample is ≤ ``tol``, or with DivergedError when no sample is finite. A sample counts as
    diverged when its norm is not finite or has grown a million times beyond the start's.
    """
    if sentences := missing(solver, problem, prior):
        raise CapabilityError(" ".join(sentences))
    _check_x0(problem, x0)
    k0, state = (0, solver.init(problem, prior, rng, x0)) if start is None else start
    x, size = state.x, linalg.norm(state.x)
    finite = torch.isfinite(size)
    for k in range(k0, solver.n_steps):
        state, info = solver.step(problem, prior, state, k, rng)
        now = linalg.norm(state.x)
        size = torch.where(size > 0, size, now)  # a start at zero: the first step sets the scale
        finite = finite & torch.isfinite(now) & (now <= 1e6 * size)
        mask = linalg.expand(finite, state.x)
        change = linalg.norm(torch.where(mask, state.x - x, 0)) if solver.tol is not None else None
        x = state.x if bool(finite.all()) else torch.where(mask, state.x, x)
        if not bool(finite.any()):
            raise DivergedError(
                f"{type(solver).__name__} diverged at step {k}: every sample left the finite range. Use a smaller step or "
                "a stronger data weight; the last finite iterate is in the error's .x.",
                x=x,
                step=k,
            )
        yield Step(k, state, info, finite, x)
        if change is not None and bool((change <= solver.tol * now)[finite].all()):  # type: ignore[operator]
            return


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
) -> Result:
    """Run a solver to its end.

    seed : of the generator passed to the solver; the global RNG is never touched.
    progress : True for a progress bar, or a function called with every Step.
    objective : also record nll + value at every step (calls not counted as the solver's).
    checkpoint : a file written every ``every`` steps and on Ctrl-C, and resumed from when it exists and
        belongs to this very run; the finished result is bitwise that of an uninterrupted run.
    grad : keep gradients (for unrolled training); off by default.
    """
    from pnpkit.solvers.checkpoint import Checkpoint

    if every < 1:
        raise SpecError(f"every is a number of steps ≥ 1, given {every}.")
    rng = torch.Generator(problem.device).manual_seed(seed)
    calls, prior_calls = Counter(), PriorCounter()
    counted = Problem(problem.operator.counted(calls), problem.likelihood, problem.y)
    counted_prior = _counted(prior, prior_calls)
    saved = Checkpoint(checkpoint, problem, prior, solver, seed, x0) if checkpoint is not None else None
    start, infos = saved.load(rng, lambda: solver.init(problem, prior, rng, x0)) if saved else (None, [])
    began, stopped, last = time.perf_counter(), "n_steps", None
    with nullcontext() if grad else torch.no_grad(), _watch(progress, solver.n_steps) as watch:
        try:
            for last in iterate(counted, counted_prior, solver, rng, x0, start):
                info = dict(last.info)
                if objective:
                    info["objective"] = _objective(problem, prior, last.x)
                infos.append(info)
                if saved and (last.k + 1) % every == 0:
                    saved.write(last.k + 1, last.state, rng, infos)
                watch(last)
        except KeyboardInterrupt:
            if saved is None or last is None:
                raise
            saved.write(last.k + 1, last.state, rng, infos)
            stopped = "interrupted"
    if last is None:  # a finished run was resumed, or n_steps = 0
        k, state = start if start is not None else (0, solver.init(problem, prior, rng, x0))
        last = Step(k - 1, state, {}, torch.isfinite(linalg.norm(state.x)), state.x)
    elif stopped == "n_steps" and last.k + 1 < solver.n_steps:
        stopped = "tol"
    return Result(
        x=last.x,
        info=_stacked(infos),
        finite=last.finite,
        steps=last.k + 1,
        stopped=stopped,
        seconds=time.perf_counter() - began,
        calls={"forward": calls.forward, "adjoint": calls.adjoint, "prox": calls.prox, "prior": prior_calls.calls},
        seed=seed,
        parts={"operator": problem.operator, "likelihood": problem.likelihood, "prior": prior, "solver": solver},
    )


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
    value = problem.nll(x)
    return value + part.value(x) if part is not None and "prox" in part.provides and part.has_value else value  # type: ignore[attr-defined]


def _stacked(infos: list[Info]) -> Info:
    """{name: (steps, B)}; a step that did not report a name leaves NaN."""
    names = dict.fromkeys(n for info in infos for n in info)
    rows = {n: [torch.as_tensor(info[n]).detach().cpu().double() if n in info else None for info in infos] for n in names}
    width = {n: next(v for v in row if v is not None) for n, row in rows.items()}
    return {
        n: torch.stack([torch.full_like(width[n], torch.nan) if v is None else v for v in row]) for n, row in rows.items()
    }


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
