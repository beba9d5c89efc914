"""Names → components, through entry points only (the built-ins use them too).

Groups are ``pnpkit.<kind>``; an entry is loaded on first use. ``operator``, ``prior``,
``solver``, ``likelihood`` and ``make`` turn a name or a mapping into an object.
"""

import functools
import inspect
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import torch

from pnpkit.errors import RegistryError, SpecError, suggest
from pnpkit.types import Config

KINDS = ("operators", "likelihoods", "priors", "solvers", "makers", "metrics", "readers", "weights")


@functools.cache
def _entries(kind: str) -> dict[str, EntryPoint]:
    if kind not in KINDS:
        raise RegistryError(f"{kind!r} is not a kind of component.{suggest(kind, KINDS)}")
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=f"pnpkit.{kind}"):
        other = found.get(entry.name)
        if other is not None and other.value != entry.value:
            raise RegistryError(
                f"{entry.name!r} is registered twice under pnpkit.{kind}: by {other.value} and by "
                f"{entry.value}. Uninstall one of the two packages or rename its entry point."
            )
        found[entry.name] = entry
    return found


def names(kind: str) -> list[str]:
    """Registered names of a kind, sorted."""
    return sorted(_entries(kind))


def get(kind: str, name: str) -> Any:
    """The class or function registered under ``name``; RegistryError with a suggestion if none."""
    entries = _entries(kind)
    if not isinstance(name, str):
        raise RegistryError(f"The name of a {kind[:-1]} is a string, given {name!r:.60}.")
    if name not in entries:
        known = [*entries, *_entries("weights")] if kind == "priors" else entries
        raise RegistryError(f"No {kind[:-1]} is called {name!r}.{suggest(name, known)}")
    try:
        return entries[name].load()
    except (ImportError, AttributeError) as error:
        raise RegistryError(
            f"{kind[:-1]} {name!r} ({entries[name].value}) cannot be imported: {error}. "
            "Install what it needs, or reinstall the package that provides it."
        ) from error


def name_of(kind: str, component: object) -> str | None:
    """The registered name of a class, function or instance (None when it is not registered)."""
    target = component if inspect.isclass(component) or inspect.isroutine(component) else type(component)
    for name, entry in _entries(kind).items():
        if entry.attr == target.__qualname__ and entry.load() is target:  # type: ignore[union-attr]
            return name
    return None


def build(kind: str, config: Config | object) -> Any:
    """A component from a name or a mapping ``{"name": …, parameter: value}``; objects pass through.

    ``"precision": "float64"`` beside the name moves what was built to that precision. ``"preset": …`` beside that of a
    solver stands for the parameters that it keeps under this name; those that are given come first.
    """
    if isinstance(config, str):
        config = {"name": config}
    if not hasattr(config, "keys"):
        return config
    parameters: dict[str, Any] = dict(config)  # type: ignore[call-overload]
    if "name" not in parameters:
        raise SpecError(
            f"A {kind[:-1]} is described by a mapping with a 'name'; given keys: "
            f"{', '.join(map(str, parameters)) or 'none'}."
        )
    name, precision, preset = (parameters.pop(key, None) for key in ("name", "precision", "preset"))
    if kind == "priors" and name not in _entries(kind) and name in _entries("weights"):
        name, parameters = card(name)["prior"], {"weights": name, **parameters}
    cls = get(kind, name)
    if preset is not None:
        parameters = {**_preset(cls, preset), **parameters}
    component = cls(**parameters)
    return component if precision is None else in_precision(component, precision)


def _preset(cls: Any, name: Any) -> dict[str, Any]:
    if not hasattr(cls, "settings"):
        raise SpecError(f"{cls.__name__} has no presets; given preset {name!r:.60}.")
    return cls.settings(name)


def card(name: str) -> dict[str, Any]:
    """The card of shipped weights: "prior" and "file", data and terms, recipe, sha256, scores."""
    return get("weights", name)(name)


PRECISIONS = ("float32", "float64", "float16", "bfloat16")


def in_precision(component: Any, precision: Any) -> Any:
    """The component moved to the precision that its config names."""
    if precision not in PRECISIONS or not isinstance(component, torch.nn.Module):
        raise SpecError(
            f"{type(component).__name__}: precision is one of {', '.join(PRECISIONS)}, for operators, likelihoods and "
            f"priors; given {precision!r}."
        )
    return component.to(getattr(torch, precision))


def operator(config: Config):
    """An operator by name or mapping, e.g. ``operator({"name": "blur", "kernel": {...}, ...})``."""
    return build("operators", config)


def prior(config: Config):
    """A prior by name or mapping, e.g. ``prior({"name": "tv", "weight": 0.1})``; or by the name of shipped weights."""
    return build("priors", config)


def solver(config: Config):
    """A solver by name or mapping, e.g. ``solver({"name": "hqs", "n_steps": 20})``."""
    return build("solvers", config)


def likelihood(config: Config):
    """A likelihood by name or mapping, e.g. ``likelihood({"name": "gaussian", "sigma": 0.01})``."""
    return build("likelihoods", config)


def make(name: str, **parameters: Any):
    """A tensor from a registered maker, e.g. ``make("motion_kernel", size=25, seed=3)``."""
    from pnpkit.spec import call_checked

    return call_checked(get("makers", name), parameters)


def lazy_names(kind: str):
    """``__getattr__`` for a package whose public names are the registered ones: ``pk.operators.Blur``."""

    def getattr_(name: str) -> Any:
        for entry in _entries(kind).values():
            if entry.attr == name:
                return entry.load()
        raise AttributeError(
            f"pnpkit.{kind} has no {name!r}.{suggest(name, (e.attr for e in _entries(kind).values()))}"
        )

    return getattr_
