"""What is registered, as tables: the code behind ``pnpkit list``, ``show`` and ``check``."""

import inspect
import json
import math
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from pnpkit import registry, spec
from pnpkit.errors import PnpkitError, RegistryError, suggest
from pnpkit.io import info
from pnpkit.solvers.base import Solver, missing
from pnpkit.spec import load_tensor


def summary(component: Any) -> str:
    """The first line of a docstring."""
    return (inspect.getdoc(component) or "").split("\n")[0]


def components(kind: str | None) -> Iterator[RenderableType]:
    """A table per kind."""
    for group in (kind,) if kind else registry.KINDS:
        table = Table(title=group, title_justify="left", show_header=False, box=None)
        for name in registry.names(group):
            told = registry.card(name)["about"] if group == "weights" else summary(registry.get(group, name))
            table.add_row(f"  {name}", escape(told))
        yield table


def find(name: str) -> tuple[str, Any]:
    """(kind, class or function) of a name, or of kind/name where two kinds share it."""
    kind, _, short = name.rpartition("/")
    kinds = (kind,) if kind else registry.KINDS
    hits = [(k, registry.get(k, short)) for k in kinds if short in registry.names(k)]
    if not hits:
        raise RegistryError(
            f"Nothing is called {name!r}.{suggest(short, (n for k in kinds for n in registry.names(k)))}"
        )
    if len(hits) > 1:
        raise RegistryError(f"{name!r} is ambiguous; write {' or '.join(f'{k}/{short}' for k, _ in hits)}.")
    return hits[0]


def file(path: Path, key: str | None) -> Iterator[RenderableType]:
    """What ``pnpkit info`` prints about a file."""
    told = info(path)
    yield f"[bold]{escape(str(path))}[/]  {told.format}"
    arrays = Table(show_header=False, box=None)
    for name, (shape, dtype) in told.entries.items():
        arrays.add_row(f"  {escape(name)}", f"{tuple(shape)}", dtype)
    yield arrays
    facts = Table(show_header=False, box=None)
    for name, value in told.facts.items():
        facts.add_row(f"  {escape(name)}", escape(value))
    if told.facts:
        yield facts
    source = {"file": str(path)} | ({"key": key} if key else {})
    values = told.values
    lone = len(told.entries) == 1 and "cell" not in [dtype for _, dtype in told.entries.values()]
    if values is None and (key or lone):
        values = np.asarray(load_tensor(source))
    if values is not None:
        yield f"  values: {value_range(values)}"
    elif told.entries:
        source["key"] = max(told.entries, key=lambda name: math.prod(told.entries[name][0]))
        yield "  values: name an array with --key"
    yield f"  in a config: {escape(json.dumps(source))}"


def value_range(values: np.ndarray) -> str:
    """Least, greatest, mean and what is not finite; of magnitudes, for complex arrays."""
    size = np.abs(values) if np.iscomplexobj(values) else values
    finite = size[np.isfinite(size)] if size.dtype.kind == "f" else size.ravel()
    if not finite.size:
        return "none that is finite"
    bad = f", {size.size - finite.size} not finite" if finite.size < size.size else ""
    label = "magnitudes " if np.iscomplexobj(values) else ""
    return f"{label}{finite.min():.6g} to {finite.max():.6g}, mean {finite.mean():.6g}{bad}"


def schema(name: str) -> str:
    """The JSON schema of a component's parameters."""
    return json.dumps(spec.spec_type(find(name)[1]).model_json_schema(), indent=2)


def describe(name: str) -> Iterator[RenderableType]:
    """Docstring and parameters."""
    kind, found = find(name)
    if kind == "weights":
        yield from _card(registry.card(name.rpartition("/")[2]))
        return
    component: Any = found
    yield f"[bold]{name}[/] ({kind[:-1]}, {component.__module__}:{component.__qualname__})\n"
    yield escape(inspect.getdoc(component) or "")
    table = Table(title="parameters", title_justify="left", box=None)
    for column in ("name", "type", "default"):
        table.add_column(column)
    function = component.__init__ if inspect.isclass(component) else component
    for p in spec.parameters(function):
        default = "required" if p.default is p.empty else repr(p.default)
        table.add_row(p.name, escape(_type_name(p.annotation)), escape(default))
    if table.row_count:
        yield table
    if isinstance(component, type) and issubclass(component, Solver):
        yield "needs: " + "; ".join(f"{who}: {', '.join(what)}" for who, what in component.needs.items())


def _card(card: dict[str, Any]) -> Iterator[RenderableType]:
    """What the card of shipped weights says, without the recipe."""
    yield f"[bold]{card['name']}[/] (weights of the prior {card['prior']})\n\n{escape(card['about'])}\n"
    table = Table(show_header=False, box=None)
    for key, value in card.items():
        if key not in ("name", "prior", "about", "recipe"):
            table.add_row(key, escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    yield table


SIGNS = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))


def _type_name(annotation: Any) -> str:
    """An annotation as a reader would say it: ``float > 0 or None``."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        bounds = [m for extra in args[1:] for m in getattr(extra, "metadata", (extra,))]
        told = [f"{sign} {getattr(m, name)}" for m in bounds for name, sign in SIGNS if hasattr(m, name)]
        return " ".join([_type_name(args[0]), " and ".join(told)]).strip()
    if origin in (typing.Union, types.UnionType):
        return " or ".join("None" if a is type(None) else _type_name(a) for a in args)
    if origin is typing.Literal:
        return " or ".join(repr(a) for a in args)
    if origin is tuple:
        return f"({', '.join('…' if a is ... else _type_name(a) for a in args)})"
    return annotation.__name__ if inspect.isclass(annotation) else str(annotation)


def fits(operator: str, noise: str) -> Iterator[RenderableType]:
    """Prior × solver for one operator and noise: a tick, or the number of the reason below."""
    op = registry.get("operators", operator).example()
    likelihood = registry.get("likelihoods", noise)
    problem = SimpleNamespace(operator=op, likelihood=likelihood() if noise == "poisson" else likelihood(sigma=0.1))
    solvers, reasons = registry.names("solvers"), {}
    table = Table(title=f"{operator} with {noise} noise: prior (row) × solver (column)", title_justify="left")
    table.add_column("prior")
    for name in solvers:
        table.add_column(name.replace("_", "\n"), justify="center")
    for prior in [None, *registry.names("priors")]:
        cells = []
        for name in solvers:
            sentences = missing(registry.get("solvers", name), problem, None if prior is None else _sample(prior))
            number = reasons.setdefault(" ".join(sentences), len(reasons) + 1) if sentences else 0
            cells.append(f"[dim]{number}[/]" if number else "[green]✓[/]")
        table.add_row(prior or "(none)", *cells)
    yield table
    for reason, number in reasons.items():
        yield f"[dim]{number}[/] {escape(reason)}"


def _sample(prior: str) -> Any:
    """An example of a prior, or just its class's promises where weights are not here."""
    cls = registry.get("priors", prior)
    try:
        return cls.example()
    except PnpkitError:
        promise = {"provides": cls.provides, "misfit": lambda self, shape, dtype: None}
        return type(cls.__name__, (), promise)()


def check(names: list[str], console: Console, verbose: bool) -> bool:
    """Run the conformance suite and print one line a component; True when nothing failed."""
    import torch

    from pnpkit.testing import check_all

    failed = 0
    torch.set_num_threads(1)  # the examples are tiny; more threads only wait for each other
    for report in check_all(names):
        bad = [o for o in report.outcomes if o.status in ("failed", "xpassed")]
        failed += bool(bad)
        counts = {s: sum(o.status == s for o in report.outcomes) for s in ("passed", "skipped", "xfailed")}
        told = ", ".join(f"{n} {s}" for s, n in counts.items() if n)
        mark = "[red]FAIL[/]" if bad else "[green]ok[/]  "
        console.print(
            f"{mark} {report.kind}/{report.name}: {told}{f', {len(bad)} failed' if bad else ''}", highlight=False
        )
        for o in (
            report.outcomes
            if verbose
            else [*bad, *(o for o in report.outcomes if o.status == "skipped" and len(report.outcomes) == 1)]
        ):
            console.print(f"       {o.name}: {o.status} {escape(o.message)}", highlight=False)
    console.print("[green]all components conform[/]" if not failed else f"[red]{failed} component(s) do not conform[/]")
    return not failed
