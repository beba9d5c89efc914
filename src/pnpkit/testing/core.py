"""What a check is, how checks are run, and what comes out.

A check is a plain function of one component that raises ``ConformanceError`` when the component
breaks its contract, or ``Skip`` when it has nothing to say about it.
"""

import inspect
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from pnpkit import registry
from pnpkit.errors import ConvergenceWarning, RegistryError, WeightsError, suggest

Status = Literal["passed", "failed", "skipped", "xfailed", "xpassed"]


class ConformanceError(AssertionError):
    """A component breaks its contract; the message says what was expected and what was measured."""


class Skip(Exception):
    """A check does not apply to this component, for the reason given."""


@dataclass(frozen=True)
class Outcome:
    """One check on one component. ``bad`` outcomes are failures and unexpected passes."""

    name: str
    status: Status
    message: str
    seconds: float

    @property
    def bad(self) -> bool:
        return self.status in ("failed", "xpassed")


@dataclass(frozen=True)
class Report:
    """All checks on one registered component."""

    kind: str
    name: str
    outcomes: tuple[Outcome, ...]

    @property
    def ok(self) -> bool:
        return not any(o.bad for o in self.outcomes)


@dataclass(frozen=True)
class Check:
    """``function(component)`` for components of one kind that are instances of ``base``."""

    name: str
    kind: str
    base: type
    function: Callable[[Any], None]


_CHECKS: list[Check] = []


def check(kind: str, base: type = object) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Register ``check_xxx`` under the name ``xxx``."""

    def register(function: Callable[[Any], None]) -> Callable[[Any], None]:
        name = function.__name__.removeprefix("check_")
        _CHECKS.append(Check(name, kind, base, function))
        return function

    return register


def checks_for(component: Any, kind: str) -> list[Check]:
    """The checks that apply to an instance (or, for makers, metrics and readers, a function; for weights, a card)."""
    return [c for c in _CHECKS if c.kind == kind and isinstance(component, c.base)]


def check_names(kind: str) -> list[str]:
    """Names of all checks of a kind."""
    return sorted({c.name for c in _CHECKS if c.kind == kind})


def run_checks(
    component: Any,  # an instance, a class with ``example()``, or a registered function
    kind: str | None = None,  # read off the component when None; needed for functions
    only: Sequence[str] = (),  # names of checks; all when empty
) -> list[Outcome]:
    """Run every check that applies, in order; never raises for what a component does."""
    kind = str(kind or component.kind)
    if unknown := sorted(set(only) - set(check_names(kind))):
        raise RegistryError(f"No check of {kind} is called {unknown[0]!r}.{suggest(unknown[0], check_names(kind))}")
    if inspect.isclass(component):
        component, failure = _example(component)
        if failure is not None:
            return [failure]
    expected = getattr(component, "expected_failures", {})
    outcomes = _unknown_expectations(expected, kind)
    for item in checks_for(component, kind):
        if not only or item.name in only:
            outcomes.append(_run(item, component, expected.get(item.name)))
    return outcomes


def assert_conforms(component: Any, kind: str | None = None, only: Sequence[str] = ()) -> None:
    """``run_checks`` for a test: raises one ConformanceError that lists everything that failed."""
    bad = [o for o in run_checks(component, kind, only) if o.bad]
    if bad:
        name = component.__name__ if hasattr(component, "__name__") else type(component).__name__
        lines = "\n".join(f"  {o.name}: {o.message}" for o in bad)
        raise ConformanceError(f"{name} fails {len(bad)} check(s):\n{lines}")


def check_all(names: Sequence[str] = (), kind: str | None = None) -> Iterator[Report]:
    """Reports of registered components: all, those of a kind, or those named.

    A name is a registered name ("blur"), one with its kind ("operators/blur"), or an installed package,
    whose components are then all checked.
    """
    for group, name in selected(names, kind):
        yield check_registered(group, name)


def check_registered(kind: str, name: str) -> Report:
    """The report of one registered component."""
    try:
        component = registry.card(name) if kind == "weights" else registry.get(kind, name)
    except (RegistryError, WeightsError) as error:
        return Report(kind, name, (Outcome("import", "failed", str(error), 0.0),))
    return Report(kind, name, tuple(run_checks(component, kind)))


def selected(names: Sequence[str] = (), kind: str | None = None) -> list[tuple[str, str]]:
    """(kind, name) of the components meant; RegistryError with a suggestion for what is not there."""
    kinds = registry.KINDS if kind is None else (kind,)
    everything = [(k, n) for k in kinds for n in registry.names(k)]
    if not names:
        return everything
    found: list[tuple[str, str]] = []
    for name in names:
        hits = [(k, n) for k, n in everything if name in (n, f"{k}/{n}") or _plain(name) in _providers(k, n)]
        if not hits:
            known = {n for _, n in everything} | {p for k, n in everything for p in _providers(k, n)}
            raise RegistryError(f"Nothing is called {name!r}.{suggest(name, known)}")
        found += [hit for hit in hits if hit not in found]
    return found


def _providers(kind: str, name: str) -> set[str]:
    entry = registry._entries(kind)[name]
    return {entry.module.partition(".")[0]} | ({_plain(entry.dist.name)} if entry.dist else set())


def _plain(name: str) -> str:
    return name.replace("-", "_").lower()


def _example(cls: type) -> tuple[Any, Outcome | None]:
    began = time.perf_counter()
    try:
        return cls.example(), None  # type: ignore[attr-defined]
    except WeightsError as error:
        return None, Outcome("example", "skipped", str(error), time.perf_counter() - began)
    except Exception as error:
        message = f"{cls.__name__}.example() raised {type(error).__name__}: {error}"
        return None, Outcome("example", "failed", message, time.perf_counter() - began)


def _unknown_expectations(expected: Mapping[str, str], kind: str) -> list[Outcome]:
    known = check_names(kind)
    return [
        Outcome(name, "failed", f"expected_failures names no check.{suggest(name, known)}", 0.0)
        for name in expected
        if name not in known
    ]


def _run(item: Check, component: Any, reason: str | None) -> Outcome:
    began = time.perf_counter()
    status, message = _status(item, component)
    if reason is not None and status in ("passed", "failed"):
        if status == "passed":
            status, message = "xpassed", f"declared in expected_failures ({reason}), but it passes"
        else:
            status, message = "xfailed", f"{reason} ({message})"
    return Outcome(item.name, status, message, time.perf_counter() - began)


def _status(item: Check, component: Any) -> tuple[Status, str]:
    try:
        with warnings.catch_warnings():
            # Checks push inner solves to their limits; what matters is the accuracy they measure.
            warnings.simplefilter("ignore", ConvergenceWarning)
            with torch.enable_grad():
                item.function(component)
    except Skip as skip:
        return "skipped", str(skip)
    except ConformanceError as error:
        return "failed", str(error)
    except Exception as error:
        return "failed", f"raised {type(error).__name__}: {error}"
    return "passed", ""
