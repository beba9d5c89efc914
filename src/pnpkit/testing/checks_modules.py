"""Checks that hold for operators, likelihoods and priors alike: saving, copying, moving, purity."""

import copy
import inspect
import json
import pickle
from typing import Any

import torch
from torch import nn

from pnpkit import spec
from pnpkit.errors import PnpkitError, SpecError
from pnpkit.testing import probes
from pnpkit.testing.core import Skip, check
from pnpkit.testing.measure import (
    attributes,
    differences,
    double,
    expect,
    expect_close,
    expect_raises,
    global_rng_untouched,
    rebuilt,
    tolerance,
)

MODULES = ("operators", "likelihoods", "priors")
COMPONENTS = (*MODULES, "solvers")


def _everywhere(*kinds: str):
    def register(function):
        for kind in kinds:
            check(kind)(function)
        return function

    return register


def _rtol(component: Any) -> float:
    """Room for iterative solves whose rounding depends on memory layout."""
    dtypes = [t.dtype for t in component.state_dict().values() if t.is_floating_point() or t.is_complex()]
    dtype = getattr(component, "dtype", dtypes[0] if dtypes else torch.float32)
    return 30 * tolerance(dtype)


# --- description ---


@_everywhere(*COMPONENTS)
def check_described(component: Any) -> None:
    """A docstring, and a JSON schema of the parameters, which ``show`` and the docs print."""
    cls = type(component)
    generic = {inspect.getdoc(base) for base in cls.__mro__ if inspect.isabstract(base)}
    expect(inspect.getdoc(cls) not in generic | {None}, f"{cls.__name__} has no docstring of its own")
    json.dumps(spec.spec_type(cls).model_json_schema())


@_everywhere(*COMPONENTS)
def check_unknown_parameter_refused(component: Any) -> None:
    """A misspelt parameter is an error, never ignored."""
    cls, given = type(component), dict(component.spec)
    expect_raises(SpecError, lambda: cls(**given, no_such_parameter=1), f"{cls.__name__}(no_such_parameter=1)")


@_everywhere(*COMPONENTS)
def check_example_reproducible(component: Any) -> None:
    """``example()`` gives equal components, from its own generator."""
    cls = type(component)
    try:
        with global_rng_untouched(f"{cls.__name__}.example()"):
            first = spec.digest(cls.example())
    except PnpkitError as error:
        raise Skip(f"no example: {error}") from error
    expect(first == spec.digest(cls.example()), f"{cls.__name__}.example() differs between two calls")


# --- saving and copying ---


@_everywhere(*MODULES)
def check_spec_round_trip(component: nn.Module) -> None:
    """Saved to JSON and tensors and rebuilt: equal digest, equal results."""
    again = rebuilt(component)
    one, two = spec.digest(component), spec.digest(again)  # type: ignore[arg-type]
    expect(one == two, f"digest {two[:12]} after a round trip, expected {one[:12]}")
    expect(again.spec == component.spec, "spec differs after a round trip")  # type: ignore[attr-defined]
    before = probes.exercise(component)
    probes.expect_same_results(probes.exercise(again), before, _rtol(component), "after a round trip")
    wide = double(component)
    before, after = (probes.exercise(c, torch.float64) for c in (wide, rebuilt(wide)))
    probes.expect_same_results(after, before, _rtol(wide), "after a round trip in float64")


@_everywhere(*MODULES)
def check_tensors_are_cloned(component: nn.Module) -> None:
    """Writing into a tensor that was given to the constructor does not change the component."""
    mine: list[torch.Tensor] = []
    built = rebuilt(component, lambda t: mine.append(t.clone()) or mine[-1])
    if not mine:
        raise Skip("takes no tensors")
    before = probes.exercise(built)
    for t in mine:
        t.zero_()
    after = probes.exercise(probes.clone(built))  # a copy has no caches to hide behind
    probes.expect_same_results(after, before, _rtol(component), "after the caller's tensors were zeroed")


@_everywhere(*MODULES)
def check_pickling(component: nn.Module) -> None:
    """Pickles, gives the same results afterwards, and leaves its caches behind."""
    cold = len(pickle.dumps(rebuilt(component)))
    before = probes.exercise(component)
    data = pickle.dumps(component)
    more = len(data) - cold
    expect(more <= 200 + 0.02 * cold, f"pickles to {len(data)} bytes after use and {cold} before: caches go along")
    again = pickle.loads(data)
    probes.expect_same_results(probes.exercise(again), before, _rtol(component), "after pickling")


@_everywhere(*MODULES)
def check_deepcopy(component: nn.Module) -> None:
    """A deep copy gives the same results and shares no tensor."""
    before = probes.exercise(component)
    twin = copy.deepcopy(component)
    probes.expect_same_results(probes.exercise(twin), before, _rtol(component), "deep copy")
    for t in (*twin.buffers(), *twin.parameters()):
        t.detach().zero_()
    after = probes.exercise(copy.deepcopy(component))
    probes.expect_same_results(after, before, _rtol(component), "after the deep copy's tensors were zeroed")


@_everywhere(*MODULES)
def check_state_dict_complete(component: nn.Module) -> None:
    """Every tensor of the saved form is in ``state_dict()``, under any name."""
    held = {spec.tensor_digest(t) for t in component.state_dict().values()}
    for name, value in _tensor_parameters(component):
        lost = spec.tensor_digest(value) not in held
        expect(not lost, f"parameter {name!r} {tuple(value.shape)} is missing from state_dict()")


def _tensor_parameters(component: Any, prefix: str = ""):
    for name, value in component.spec:
        for i, part in enumerate(value if isinstance(value, tuple) else (value,)):
            path = f"{prefix}{name}.{i}" if isinstance(value, tuple) else f"{prefix}{name}"
            if isinstance(part, torch.Tensor):
                yield path, part
            elif isinstance(part, spec.Component) and isinstance(part, nn.Module):
                yield from _tensor_parameters(part, f"{path}.")


# --- purity ---


@_everywhere(*MODULES)
def check_calls_leave_no_trace(component: nn.Module) -> None:
    """Using a component changes nothing on it but declared caches, and gives the same results again."""
    component = probes.clone(component)
    before = attributes(component)
    state = {k: v.clone() for k, v in component.state_dict().items()}
    first = probes.exercise(component)
    changed = differences(before, attributes(component)) + differences(state, dict(component.state_dict()))
    expect(not changed, f"a call changed {', '.join(changed)}; cache only through derived(key, fn)")
    second = probes.exercise(component)
    probes.expect_same_results(second, first, _rtol(component) / 10, "second call with the same input")


@_everywhere(*MODULES)
def check_global_rng_untouched(component: nn.Module) -> None:
    """No global random generator is read, advanced or reseeded."""
    with global_rng_untouched(type(component).__name__):
        probes.exercise(component)
        rebuilt(component)


@_everywhere(*MODULES)
def check_works_without_grad(component: nn.Module) -> None:
    """The same results under ``torch.no_grad()``, and gradient mode is left as it was."""
    wanted = probes.exercise(component)
    with torch.no_grad():
        given = probes.exercise(probes.clone(component))
        expect(not torch.is_grad_enabled(), "a call switched gradients on")
    expect(torch.is_grad_enabled(), "a call switched gradients off")
    probes.expect_same_results(given, wanted, _rtol(component), "under no_grad")


# --- moving ---


@_everywhere(*MODULES)
def check_dtype_moves(component: nn.Module) -> None:
    """``.to(float64)`` reaches everything, keeps complexness, agrees; and back is bitwise the original."""
    probes.exercise(component)  # warm caches must not survive the move
    moved = double(component)
    for name, t in moved.state_dict().items():
        old = component.state_dict()[name]
        expect(t.is_complex() == old.is_complex(), f"buffer {name!r}: {old.dtype} became {t.dtype}")
        floating = t.is_floating_point() or t.is_complex()
        expect(not floating or t.dtype.to_real() == torch.float64, f"buffer {name!r} stayed {t.dtype}")
    single, wide = probes.exercise(component), probes.exercise(moved, torch.float64)
    for name, value in wide.items():
        expected = probes.in_precision(single[name].dtype, torch.float64)
        expect(value.dtype == expected, f"{name} is {value.dtype} after .to(float64)")
    narrow = {name: value.to(single[name].dtype) for name, value in wide.items()}
    probes.expect_same_results(narrow, single, _rtol(component), "float64 against float32")
    back = probes.clone(moved).to(torch.float32)
    for name, t in back.state_dict().items():
        expect(torch.equal(t, component.state_dict()[name]), f"buffer {name!r} changed on the way there and back")
    probes.expect_same_results(probes.exercise(back), single, _rtol(component), "back in float32")


@_everywhere(*MODULES)
def check_cuda(component: nn.Module) -> None:
    """On a GPU: everything moves, results agree with the CPU's and stay on the device."""
    if not torch.cuda.is_available():
        raise Skip("no CUDA device")
    moved = probes.clone(component).to("cuda")
    for name, t in moved.state_dict().items():
        expect(t.device.type == "cuda", f"buffer {name!r} stayed on {t.device}")
    for name, value in probes.exercise(component).items():
        given = probes.exercise(moved)[name]
        expect(given.device.type == "cuda", f"{name} is on {given.device}, expected the GPU")
        expect_close(given.cpu(), value, 30 * _rtol(component), f"{name} on the GPU")
