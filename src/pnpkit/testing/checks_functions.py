"""Checks on registered functions: makers of tensors, metrics, readers of files."""

import inspect
import json
import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from pnpkit import spec
from pnpkit.errors import CapabilityError, DataError, PnpkitError, SpecError, WeightsError
from pnpkit.testing.core import Skip, check
from pnpkit.testing.measure import (
    expect,
    expect_close,
    expect_raises,
    expect_same,
    global_rng_untouched,
    randn,
    untouched,
)

FUNCTIONS = ("makers", "metrics", "readers")


def _for(*kinds: str):
    def register(function):
        for kind in kinds:
            check(kind)(function)
        return function

    return register


@_for(*FUNCTIONS)
def check_function_described(function: Callable) -> None:
    """A docstring, and every parameter named and annotated."""
    expect(bool(inspect.getdoc(function)), f"{function.__name__} has no docstring")
    spec.spec_type(function)


# --- makers ---


def _candidates() -> list[Any]:
    return [4.0, 3, 0.5, (3, 128, 128), randn((3, 128, 128), torch.complex64, 1), "x", True]


def _arguments(function: Callable) -> dict[str, Any]:
    """A value that its annotation admits for every required parameter; the others keep their defaults."""
    given: dict[str, Any] = {}
    for name, field in spec.spec_type(function).model_fields.items():
        if field.is_required():
            given[name] = next((v for v in _candidates() if _admits(function, name, v)), None)
    return given


def _admits(function: Callable, name: str, value: Any) -> bool:
    try:
        spec.spec_type(function).model_validate({name: value})
    except ValidationError as error:
        return not any(item["loc"][:1] == (name,) for item in error.errors())
    return True


def _made(function: Callable, given: Mapping[str, Any]) -> torch.Tensor:
    try:
        return spec.call_checked(function, given)
    except PnpkitError as error:
        raise Skip(f"needs particular arguments: {error}") from error


@check("makers")
def check_makes_a_tensor(function: Callable) -> None:
    """The same arguments give the same finite tensor, which is new; no global generator is used."""
    given = _arguments(function)
    with global_rng_untouched(function.__name__):
        first = _made(function, given)
    expect(isinstance(first, torch.Tensor), f"{function.__name__} returns a {type(first).__name__}, expected a tensor")
    expect(bool(torch.isfinite(first.abs()).all()), f"{function.__name__} gives NaN or Inf")
    with untouched(function.__name__, *(v for v in given.values() if isinstance(v, torch.Tensor))):
        expect_same(_made(function, given), first, "two calls with equal arguments")


@check("makers")
def check_seed_matters(function: Callable) -> None:
    """Where there is a seed, another one gives another tensor, seed 0 included."""
    if "seed" not in spec.spec_type(function).model_fields:
        raise Skip("takes no seed")
    made = [_made(function, {**_arguments(function), "seed": s}) for s in (0, 1, 2)]
    different = not torch.equal(made[0], made[1]) and not torch.equal(made[1], made[2])
    expect(different, "different seeds give equal tensors: the seed is ignored")


@check("makers")
def check_wrong_argument_refused(function: Callable) -> None:
    """A misspelt argument and a number as text are SpecErrors."""
    given = _arguments(function)
    expect_raises(SpecError, lambda: spec.call_checked(function, {**given, "sede": 1}), f"{function.__name__}(sede=1)")
    for name, value in given.items():
        if isinstance(value, int | float):
            wrong = {**given, name: str(value)}
            expect_raises(SpecError, lambda w=wrong: spec.call_checked(function, w), f"{name} = {str(value)!r}")


@check("makers")
def check_maker_in_a_config(function: Callable) -> None:
    """Its arguments survive JSON (tensors apart), so a config can hold them."""
    given = {k: v for k, v in _arguments(function).items() if not isinstance(v, torch.Tensor)}
    if len(given) < len(_arguments(function)):
        raise Skip("takes a tensor")
    expect_same(_made(function, json.loads(json.dumps(given))), _made(function, given), "arguments read from JSON")


# --- metrics ---


def _images() -> tuple[torch.Tensor, torch.Tensor]:
    """Two noisy versions, unlike in quality, of smooth images in [0, 1]: (2, 1, 64, 64) each."""
    axis = torch.linspace(0, 3 * math.pi, 64)
    wave = 0.5 + 0.3 * torch.sin(axis)[:, None] * torch.cos(0.7 * axis)
    truth = torch.stack([wave, 1 - wave * 0.8])[:, None]
    noise = torch.tensor([0.02, 0.1]).reshape(2, 1, 1, 1) * randn(truth.shape, truth.dtype, 2)
    return (truth + noise).clamp(0, 1), truth


def _score(function: Callable, x: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    names = list(inspect.signature(function).parameters)
    options = {"data_range": 1.0} if "data_range" in names else {}
    try:
        return function(x, truth, **options)
    except (WeightsError, CapabilityError, DataError) as error:
        raise Skip(f"is not available here: {error}") from error


@check("metrics")
def check_metric_per_sample(function: Callable) -> None:
    """One finite number per sample, the same alone as in a batch; nothing is written into, nothing random."""
    x, truth = _images()
    with untouched(function.__name__, x, truth), global_rng_untouched(function.__name__):
        score = _score(function, x, truth)
    expect(score.shape == (2,), f"{function.__name__} has shape {tuple(score.shape)}, expected (2,): one per sample")
    expect(bool(torch.isfinite(score).all()), f"{function.__name__} is not finite on ordinary images")
    for i in range(2):
        alone = _score(function, x[i : i + 1], truth[i : i + 1])
        expect_close(alone, score[i : i + 1], 1e-4, f"{function.__name__} of sample {i} alone")


@check("metrics")
def check_metric_orders_quality(function: Callable) -> None:
    """Perfect, slightly noisy, very noisy: the score moves one way."""
    _, truth = _images()
    noise = randn(truth.shape, truth.dtype, 3)
    scores = [_score(function, (truth + s * noise).clamp(0, 1), truth) for s in (0.01, 0.05, 0.2)]
    steps = torch.stack([scores[1] - scores[0], scores[2] - scores[1]])
    one_way = bool((steps > 0).all()) or bool((steps < 0).all())
    expect(one_way, f"{function.__name__} goes {[s.tolist() for s in scores]} with growing noise: not monotone")
    perfect, best = _score(function, truth.clone(), truth), scores[0]
    better = perfect >= best if bool((steps < 0).all()) else perfect <= best
    expect(
        bool(better.all()), f"{function.__name__} of a perfect image is {perfect.tolist()}, worse than {best.tolist()}"
    )


# --- readers ---


@check("readers")
def check_bad_file_is_a_data_error(function: Callable) -> None:
    """Missing, empty, truncated and foreign files, and folders, are DataErrors that name the file."""
    with tempfile.TemporaryDirectory() as folder:
        suffix = {"read_image": ".png", "read_hdf5": ".h5"}.get(
            function.__name__, "." + function.__name__.split("_")[-1]
        )
        files = {name: Path(folder) / f"{name}{suffix}" for name in ("missing", "empty", "foreign", "folder")}
        files["empty"].touch()
        files["foreign"].write_bytes(b"\x00\x01 this is no such file \xff" * 7)
        files["folder"].mkdir()
        for label, path in files.items():
            expect_raises((DataError, CapabilityError), lambda p=path: function(p, None), f"a file that is {label}")
            try:
                function(path, None)
            except PnpkitError as error:
                expect(
                    label in str(error) or isinstance(error, CapabilityError),
                    f"the message does not name the file: {error}",
                )
