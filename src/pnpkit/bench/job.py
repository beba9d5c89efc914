"""One cell, run: measured data in, figures out. What workers do; knows nothing of stores or suites."""

import contextlib
import importlib
import inspect
import json
import os
import statistics
import subprocess
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pnpkit import registry
from pnpkit.bench.arrays import read
from pnpkit.composition import compose
from pnpkit.errors import DataError, PnpkitError, SpecError
from pnpkit.operators.base import Operator

Config = dict[str, Any]
TRACED = 200  # points of a convergence curve, at most


@dataclass(frozen=True)
class Job:
    """What a worker needs, all of it plain data.

    operator, noise, prior, solver : configs. x, y : one image and its measurement, (C, H, W) and (*out_shape), or
    files that hold them. command, call, settings : of methods that are not ours, as in a suite. metrics : names.
    data_range : of the metrics. trace : also the first metric after every step.
    """

    operator: Config
    noise: Config
    x: Any
    y: Any
    prior: Any = None
    solver: Any = None
    scale: Any = "auto"
    chains: int = 1
    command: tuple[str, ...] | None = None
    call: str | None = None
    settings: Mapping[str, Any] | None = None
    metrics: tuple[str, ...] = ("psnr",)
    data_range: float = 1.0
    seed: int = 0
    repeats: int = 1
    threads: int = 1
    timeout: float = 600.0
    trace: bool = False


@dataclass
class Answer:
    """What came of a job; ``image`` is the reconstruction, ``told`` what is kept in the store."""

    status: str  # "done" or "failed"
    told: dict[str, Any] = field(default_factory=dict)
    image: np.ndarray | None = None
    spread: np.ndarray | None = None


def run(job: Job) -> Answer:
    """Run a job; mistakes, divergence and NaN become a failed answer with their traceback."""
    torch.set_num_threads(job.threads)
    try:
        if job.call is not None:
            return _called(job)
        return _external(job) if job.command is not None else _composed(job)
    except Exception as error:
        kind = "" if isinstance(error, PnpkitError) else f"{type(error).__name__}: "
        return Answer("failed", {"reason": f"{kind}{error}", "traceback": traceback.format_exc()})


def _composed(job: Job) -> Answer:
    x, y = array(job.x), array(job.y)
    reconstruct = compose(operator(text(job.operator)), job.prior, job.solver, dict(job.noise), job.scale)
    _warm(reconstruct, y, job)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        result, cost = measured(lambda: reconstruct(y, seed=job.seed, chains=job.chains), job.repeats)
    told: dict[str, Any] = {
        "metrics": judged(result.x, x, job),
        **cost,
        "calls": {k: v * (job.chains if k == "prior" else 1) for k, v in result.calls.items()},
        "steps": result.steps,
        "notes": [*result.notes, *dict.fromkeys(str(w.message) for w in heard)],
    }
    if job.trace:
        told["trace"] = trace(reconstruct, y, x, job)
    spread = None
    if result.samples is not None and len(result.samples) > 3:
        spread = np.asarray(result.std)
        told["coverage"] = coverages(result.samples, x)
    return Answer("done", told, np.asarray(result.x), spread)


def measured(call: Callable[[], Any], repeats: int) -> tuple[Any, dict[str, float]]:
    """What the last of several calls gave; median seconds and highest growth of memory of a call."""
    seconds, peak, result = [], 0.0, None
    for _ in range(repeats):
        reset_peak()
        before, began = rss(), time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - began)
        peak = max(peak, peak_rss() - before)
    return result, {"seconds": statistics.median(seconds), "memory_mib": peak}


@lru_cache(maxsize=8)
def operator(config: str) -> Operator:
    """Built once in a process: its plans and norms are then warm."""
    return registry.build("operators", json.loads(config))


WARM: set[str] = set()  # methods that have run in this process


def _warm(reconstruct: Any, y: np.ndarray, job: Job) -> None:
    """Two steps that are not measured, once for a method in a process: imports, plans, memory."""
    key = text([job.operator, job.prior, job.solver])
    if key in WARM:
        return
    WARM.add(key)
    solver = reconstruct.solver
    short = replace(solver, n_steps=min(solver.n_steps, 2))
    with warnings.catch_warnings(), contextlib.suppress(PnpkitError):  # a schedule that two steps do not fit
        warnings.simplefilter("ignore")
        replace(reconstruct, solver=short)(y, seed=job.seed)


def judged(found: Any, x: np.ndarray, job: Job) -> dict[str, float]:
    """Every metric of the result against the truth; of complex images of their magnitudes, except nmse."""
    a, b = (torch.from_numpy(np.asarray(v))[None] for v in (found, x))
    if a.shape != b.shape:
        raise DataError(f"The method gave an image {tuple(a.shape[1:])}, expected {tuple(b.shape[1:])}.")
    if not bool(torch.isfinite(a.abs()).all()):
        raise DataError("The method gave NaN or Inf.")
    return {name: metric(name, a, b, job.data_range) for name in job.metrics}


def metric(name: str, x: torch.Tensor, ref: torch.Tensor, data_range: float) -> float:
    """One registered metric; ``data_range`` goes to those that take it, images clipped to it to those of [0, 1]."""
    function = registry.get("metrics", name)
    if x.is_complex() and name != "nmse":
        x, ref = x.abs(), ref.abs()
    if "data_range" in inspect.signature(function).parameters:
        return float(function(x, ref, data_range=data_range).mean())
    if name == "nmse":
        return float(function(x, ref).mean())
    return float(function((x / data_range).clamp(0, 1), (ref / data_range).clamp(0, 1)).mean())


def trace(reconstruct: Any, y: np.ndarray, x: np.ndarray, job: Job) -> list[list[float]]:
    """[[seconds, first metric], …] after the steps of a run of its own: measuring costs the timed one nothing."""
    points: list[list[float]] = []
    spent, began = 0.0, time.perf_counter()
    every = max(1, reconstruct.solver.n_steps // TRACED)

    def watch(step: Any) -> None:
        nonlocal spent
        now = time.perf_counter()
        if step.k % every == 0:
            ref = torch.from_numpy(x)[None]
            at = step.x[:1] if step.x.ndim == ref.ndim else step.x
            if bool(torch.isfinite(at.abs()).all()):
                value = metric(job.metrics[0], at, ref, job.data_range)
                points.append([round(now - began - spent, 5), round(value, 4)])
        spent += time.perf_counter() - now

    result = reconstruct(y, seed=job.seed, progress=watch)
    return points if result.scale == 1.0 else []  # else the steps were in other units than the truth


def coverages(samples: Any, x: np.ndarray) -> list[list[float]]:
    """[[level, share of pixels inside the central interval of that level], …], for a calibration plot; real images."""
    from pnpkit.metrics.uncertainty import coverage

    draws = torch.from_numpy(np.asarray(samples))[:, None]
    ref = torch.from_numpy(x)[None]
    if draws.is_complex():
        draws, ref = draws.real, ref.real
    levels = [v for v in (0.2, 0.4, 0.5, 0.6, 0.8, 0.9) if round((1 - v) / 2 * (len(draws) + 1), 9) >= 1]
    return [[v, round(float(coverage(draws, ref, v).mean()), 4)] for v in levels]


def function(name: str) -> Any:
    """The Python function "module:function"."""
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise SpecError(f"{name} cannot be called: {error}.") from error
    if not (inspect.isfunction(found) or inspect.isclass(found)):
        raise SpecError(f"{name} is a {type(found).__name__}; a call is of a function or a class written in Python.")
    return found


@lru_cache(maxsize=8)
def _ready(call: str, config: str, noise: str, settings: str) -> Any:
    """What the function of a ``call`` returns, made once in a process."""
    return function(call)(json.loads(config), json.loads(noise), **json.loads(settings))


def _called(job: Job) -> Answer:
    """A Python function of somebody else's: the first call of what it returns is not measured."""
    assert job.call is not None
    x, y = array(job.x), array(job.y)
    with warnings.catch_warnings(record=True) as heard, torch.no_grad():
        warnings.simplefilter("always")
        reconstruct = _ready(job.call, text(job.operator), text(job.noise), text(job.settings or {}))
        reconstruct(y)
        found, cost = measured(lambda: reconstruct(y), job.repeats)
    notes = list(dict.fromkeys(str(w.message) for w in heard))
    told = {"metrics": judged(found, x, job), **cost, "calls": {}, "steps": 1, "notes": notes}
    return Answer("done", told, np.asarray(found))


def _external(job: Job) -> Answer:
    """A program that reads {y} (and {operator}, {noise}) and writes {out}."""
    assert job.command is not None
    x, y = array(job.x), array(job.y)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {
            n: folder / f"{n}.{e}" for n, e in (("y", "npy"), ("out", "npy"), ("operator", "json"), ("noise", "json"))
        }
        np.save(files["y"], y)
        files["operator"].write_text(json.dumps(job.operator))
        files["noise"].write_text(json.dumps(job.noise))
        command = [part.format(**{k: str(v) for k, v in files.items()}) for part in job.command]
        environment = {**os.environ, "OMP_NUM_THREADS": str(job.threads)}
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, timeout=job.timeout, env=environment)
        seconds = time.perf_counter() - began
        if done.returncode:
            raise DataError(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()[-400:] or 'no message'}")
        if not files["out"].is_file():
            raise DataError(f"{command[0]} ended well but did not write {{out}}, an .npy file.")
        found = np.load(files["out"], allow_pickle=False)
    told = {
        "metrics": judged(found, x, job),
        "seconds": seconds,
        "memory_mib": None,
        "calls": {},
        "steps": 1,
        "notes": [],
    }
    return Answer("done", told, found)


def mean_score(jobs: Sequence[Job], name: str) -> tuple[float, str]:
    """The mean of a metric over several images; −inf and the reason where one failed."""
    answers = [run(job) for job in jobs]
    bad = next((a for a in answers if a.status != "done"), None)
    return (-np.inf, bad.told["reason"]) if bad else (float(np.mean([a.told["metrics"][name] for a in answers])), "")


def text(config: Any) -> str:
    return json.dumps(config, sort_keys=True, default=str)


def array(value: Any) -> np.ndarray:
    """The array, or that of the file, which is named by its content."""
    return value if isinstance(value, np.ndarray) else read(Path(value))


# --- memory ---


def rss() -> float:
    """Resident memory of this process, MiB."""
    return _status("VmRSS")


def peak_rss() -> float:
    """Its highest since ``reset_peak``, MiB."""
    return _status("VmHWM")


def reset_peak() -> None:
    """Forget the highest resident memory (Linux; elsewhere nothing)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _status(name: str) -> float:
    try:
        line = next(v for v in Path("/proc/self/status").read_text().splitlines() if v.startswith(name))
        return int(line.split()[1]) / 1024
    except (OSError, StopIteration):
        return 0.0
