"""What checks measure with: random arrays, relative errors, RNG and mutation guards, saved forms."""

import copy
import json
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from pnpkit import registry, spec
from pnpkit.likelihoods import randn_like
from pnpkit.linalg import norm
from pnpkit.testing.core import ConformanceError
from pnpkit.types import Shape

SINGLE, DOUBLE = 1e-5, 1e-10  # relative tolerances for direct formulas in float32 and float64


def generator(seed: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def randn(shape: Shape, dtype: torch.dtype, seed: int = 0, device: torch.device | str = "cpu"):
    """Zero-mean, unit variance in each real component; the same numbers in every precision and device."""
    wide = torch.complex128 if dtype.is_complex else torch.float64
    return randn_like(torch.empty(shape, dtype=wide), generator(seed)).to(device, dtype)


def expect(condition: bool, message: str) -> None:
    if not condition:
        raise ConformanceError(message)


def tolerance(dtype: torch.dtype) -> float:
    return DOUBLE if dtype.to_real() == torch.float64 else SINGLE


def relative_error(given: torch.Tensor, wanted: torch.Tensor) -> float:
    """max over samples of ‖given − wanted‖/‖wanted‖; NaN and Inf count as infinitely wrong.

    Where ``wanted`` is zero the other samples set the scale, or 1.
    """
    difference = torch.where(given == wanted, torch.zeros_like(wanted), given - wanted)  # ∞ equals ∞
    size, gap = norm(torch.where(torch.isinf(wanted), 0, wanted)), norm(difference)
    size = torch.where(size > 0, size, size.max() if bool((size > 0).any()) else torch.ones_like(size))
    error = float((gap / size).max()) if gap.numel() else 0.0
    return error if error == error else float("inf")


def expect_close(given: Any, wanted: torch.Tensor, rtol: float, what: str) -> None:
    """Same shape, same dtype, and close relative to the size of what is wanted, in every sample."""
    expect(isinstance(given, torch.Tensor), f"{what}: expected a tensor, given {type(given).__name__}")
    same = (given.shape, given.dtype) == (wanted.shape, wanted.dtype)
    expect(
        same,
        f"{what}: expected {tuple(wanted.shape)} {wanted.dtype}, measured {tuple(given.shape)} {given.dtype}",
    )
    flat = [t.detach().reshape(1, 1) if t.ndim == 0 else t.detach() for t in (given, wanted)]
    flat = [t[:, None] if t.ndim == 1 else t for t in flat]
    error = relative_error(*flat)
    expect(error <= rtol, f"{what}: relative error {error:.2e}, expected at most {rtol:.0e}")


def expect_same(given: torch.Tensor, wanted: torch.Tensor, what: str) -> None:
    """Bitwise equal."""
    equal = given.shape == wanted.shape and given.dtype == wanted.dtype and torch.equal(given, wanted)
    gap = "" if equal or given.shape != wanted.shape else f", largest gap {_gap(given, wanted):.2e}"
    expect(equal, f"{what}: expected bitwise equal{gap}")


def _gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max()) if a.numel() else 0.0


def expect_raises(errors: type[Exception] | tuple[type[Exception], ...], call: Callable[[], Any], what: str) -> None:
    names = " or ".join(e.__name__ for e in (errors if isinstance(errors, tuple) else (errors,)))
    try:
        call()
    except errors:
        return
    except Exception as error:
        raise ConformanceError(f"{what}: expected {names}, raised {type(error).__name__}: {error}") from error
    raise ConformanceError(f"{what}: expected {names}, nothing was raised")


@contextmanager
def untouched(what: str, *tensors: torch.Tensor) -> Iterator[None]:
    """The tensors must be bitwise the same afterwards."""
    before = [t.detach().clone() for t in tensors]
    yield
    for i, (old, new) in enumerate(zip(before, tensors, strict=True)):
        expect_same(new.detach(), old, f"{what} wrote into its input {i}")


@contextmanager
def global_rng_untouched(what: str) -> Iterator[None]:
    """The global generators of torch, NumPy and Python must be where they were."""
    saved = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        # An unusual place, so that a component that reseeds cannot happen to land on it.
        torch.manual_seed(777_123)
        np.random.seed(777_123)
        random.seed(777_123)
        torch.rand(3)
        np.random.rand(3)
        random.random()
        before = _global_states()
        yield
        after = _global_states()
        moved = [label for label in before if before[label] != after[label]]
        expect(not moved, f"{what} used the global random generator of {', '.join(moved)}; pass one instead")
    finally:
        torch.set_rng_state(saved[0])
        np.random.set_state(saved[1])
        random.setstate(saved[2])


def _global_states() -> dict[str, Any]:
    _, keys, *position = np.random.get_state()
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (np.asarray(keys).tobytes(), position),
        "random": random.getstate(),
    }


def attributes(module: nn.Module) -> dict[str, Any]:
    """Everything a call could leave behind on a module and its children, except declared caches."""
    held: dict[str, Any] = {}
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            if name in ("_derived", "_buffers", "_parameters", "_modules", "_counter"):
                continue
            held[f"{path}.{name}"] = copy.copy(value) if isinstance(value, list | dict | set) else value
        held |= {f"{path}:{n}": t.detach().clone() for n, t in part._buffers.items() if t is not None}
        held |= {f"{path}:{n}": t.detach().clone() for n, t in part._parameters.items() if t is not None}
    return held


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Names that appeared, disappeared or changed."""
    changed = [n for n in before.keys() & after.keys() if not _equal(before[n], after[n])]
    return sorted(changed + list(before.keys() ^ after.keys()))


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)
    if a is b:
        return True
    try:
        return bool(a == b)
    except Exception:
        return False


def double(module: nn.Module) -> Any:
    """A float64 copy; the given one is left alone."""
    return copy.deepcopy(module).to(torch.float64)


def saved_form(component: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    """The saved form after a trip through JSON text and with the tensors cloned."""
    config, tensors = spec.encode(component)
    return json.loads(json.dumps(config)), {k: t.clone() for k, t in tensors.items()}


def rebuilt(component: Any, change: Callable[[torch.Tensor], torch.Tensor] = torch.clone) -> Any:
    """A new object from the saved form: no tensors and no caches in common.

    Parts whose classes are registered are rebuilt by name; others (in tests) by their class.
    """
    config, tensors = saved_form(component)
    built = assemble(component, spec.decode(config, {k: change(t) for k, t in tensors.items()}))
    return spec.rebuild(component.kind, built, {}) if isinstance(built, Mapping) else built


def assemble(component: spec.Component, decoded: Any) -> Any:
    """The decoded config with every part whose class is not registered replaced by an object."""
    return _assembled(decoded, dict(_unregistered(component)))


def _assembled(value: Any, classes: dict[str, type]) -> Any:
    if isinstance(value, Mapping):
        value = {k: _assembled(v, classes) for k, v in value.items()}
        cls = classes.get(str(value.get("name")))
        if cls is None:
            return value
        built = cls(**{k: v for k, v in value.items() if k not in ("name", "precision")})
        return registry.in_precision(built, value["precision"]) if "precision" in value else built
    return [_assembled(v, classes) for v in value] if isinstance(value, list) else value


def _unregistered(component: spec.Component) -> Iterator[tuple[str, type]]:
    name = spec.encode(component)[0]["name"]
    if registry.name_of(component.kind, component) is None:
        yield name, type(component)
    for _, value in component.spec:
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, spec.Component):
                yield from _unregistered(part)
