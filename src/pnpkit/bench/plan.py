"""From a suite to cells: images, measurements, which method runs where, and the key of every cell."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from pnpkit import registry
from pnpkit.bench.job import Job, function
from pnpkit.bench.keys import digest, key_of
from pnpkit.bench.store import Store
from pnpkit.bench.suite import DataSet, Method, Suite, Task
from pnpkit.composition import compose
from pnpkit.errors import CapabilityError, SpecError
from pnpkit.operators.base import Operator
from pnpkit.training.data import Pool

Config = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One method on one measurement. ``job`` has no settings of a search yet; ``group`` is its tuning."""

    key: str
    data: str
    task: str
    method: str
    image: int
    seed: int
    job: Job
    group: str | None = None


@dataclass(frozen=True)
class Search:
    """The tuning of one method on one task and data set: cells wait for it."""

    key: str
    data: str
    task: str
    method: str
    settings: tuple[Config, ...]
    jobs: tuple[Job, ...]  # one a validation image, without settings


@dataclass(frozen=True)
class Skipped:
    """A method that cannot run on a task, and the sentence why."""

    data: str
    task: str
    method: str
    reason: str


@dataclass(frozen=True)
class Plan:
    suite: Suite
    cells: tuple[Cell, ...]
    searches: Mapping[str, Search]
    skipped: tuple[Skipped, ...]


def plan(suite: Suite, store: Store, select: Mapping[str, str] | None = None) -> Plan:
    """All cells of a suite; measurements are made here, once for all methods, and kept in the store by content.

    select : {"data" | "task" | "method": part of a name}: only those.
    SpecError where nothing is left, or more than the suite's limit.
    """
    select = select or {}
    chosen = {k: _selected(k, getattr(suite, _PLURAL[k]), select.get(k)) for k in _PLURAL}
    expected = sum(_count(suite, chosen, task) for task in chosen["task"])
    if expected > suite.limit:
        raise SpecError(f"Suite {suite.name} has {expected:,} cells, more than its limit of {suite.limit:,}.")
    cells, searches, skipped = [], {}, []
    for (name, data), (task_name, task) in itertools.product(chosen["data"].items(), chosen["task"].items()):
        if task.data is not None and name not in task.data:
            continue
        scene = Scene(name, data, task_name, task, store)
        for method_name, method in chosen["method"].items():
            if method.tasks is not None and task_name not in method.tasks:
                continue
            if reason := scene.misfit(method):
                skipped.append(Skipped(name, task_name, method_name, reason))
                continue
            search = scene.search(suite, method_name, method)
            if search is not None:
                searches[search.key] = search
            cells += scene.cells(suite, method_name, method, search)
    if not cells and not skipped:
        raise SpecError(f"Suite {suite.name} expands to nothing: no task is for any of its data sets and methods.")
    return Plan(suite, tuple(cells), searches, tuple(skipped))


_PLURAL = {"data": "data", "task": "tasks", "method": "methods"}


def _selected(kind: str, known: Mapping[str, Any], part: str | None) -> dict[str, Any]:
    found = {k: v for k, v in known.items() if part is None or part in k}
    if not found:
        raise SpecError(f"No {kind} has {part!r} in its name; there are: {', '.join(known)}.")
    return found


def _count(suite: Suite, chosen: Mapping[str, Mapping[str, Any]], task: str) -> int:
    t: Task = chosen["task"][task]
    images = sum(d.test for n, d in chosen["data"].items() if t.data is None or n in t.data)
    return images * len(t.seeds) * sum(1 for m in chosen["method"].values() if m.tasks is None or task in m.tasks)


class Scene:
    """One data set under one task: images, operator, measurements."""

    def __init__(self, data_name: str, data: DataSet, task_name: str, task: Task, store: Store):
        self.data_name, self.task_name, self.data, self.task, self.store = data_name, task_name, data, task, store
        self._made: dict[tuple[int, int], tuple[str, str]] = {}
        self.images = images(data)
        shape = list(self.images[0].shape)
        self.config = filled(task.operator, shape)
        self.operator = registry.build("operators", dict(self.config))
        self.given = filled({**task.operator, **task.unknown}, shape)
        self.given_operator = self._given()
        self.noise = registry.build("likelihoods", dict(task.noise))
        if tuple(shape) != tuple(self.operator.in_shape) or self.operator.in_dtype.is_complex != data.complex:
            kind = "complex" if data.complex else "real"
            raise SpecError(
                f"Task {task_name} takes images {tuple(self.operator.in_shape)} {self.operator.in_dtype}, the data set "
                f"{data_name} has {tuple(shape)}, {kind}."
            )

    def _given(self) -> Operator:
        """The operator as methods are told it."""
        if not self.task.unknown:
            return self.operator
        for name in self.task.unknown:
            if name not in self.operator.theta:
                raise SpecError(
                    f"Task {self.task_name} leaves {name} unknown, which is no parameter of "
                    f"{type(self.operator).__name__}; it has: {', '.join(self.operator.theta) or 'none'}."
                )
        given = registry.build("operators", dict(self.given))
        for name in self.task.unknown:
            true, told = (tuple(getattr(o, name).shape) for o in (self.operator, given))
            if true != told:
                raise SpecError(f"Task {self.task_name}: the unknown {name} is {true}, given {told} in its place.")
        return given

    def misfit(self, method: Method) -> str | None:
        """The sentence why a method cannot run here, or None."""
        if method.command is not None:
            return None
        if method.call is not None:
            function(method.call)
            return None
        try:
            operator = self.operator if method.oracle else self.given_operator
            compose(operator, method.prior, method.solver, self.noise, method.scale)
        except CapabilityError as error:
            return str(error)
        return None

    def measured(self, image: int, seed: int) -> tuple[str, str]:
        """Names of the arrays x and y, made once for all methods."""
        if (image, seed) not in self._made:
            x = self.images[image]
            rng = torch.Generator().manual_seed(seed * 1_000_003 + image)
            y = self.noise.sample(self.operator(x[None]), rng)[0]
            self._made[image, seed] = self.store.put(x.numpy()), self.store.put(y.numpy())
        return self._made[image, seed]

    def job(self, suite: Suite, method: Method, image: int, seed: int) -> Job:
        x, y = self.measured(image, seed)
        return Job(
            operator=self.config if method.oracle else self.given, noise=self.task.noise,
            x=str(self.store.file(x)), y=str(self.store.file(y)),
            prior=method.prior, solver=method.solver, scale=method.scale, chains=method.chains, command=method.command,
            call=method.call, settings=method.settings or None,
            metrics=suite.metrics, data_range=self.data.data_range, seed=seed, repeats=suite.repeats,
            threads=suite.threads, timeout=suite.timeout, trace=image == 0 and seed == self.task.seeds[0],
        )  # fmt: skip

    def cells(self, suite: Suite, name: str, method: Method, search: Search | None) -> Iterator[Cell]:
        for image, seed in itertools.product(range(self.data.test), self.task.seeds):
            job = self.job(suite, method, image, seed)
            group = None if search is None else search.key
            yield Cell(key_of(job, group), self.data_name, self.task_name, name, image, seed, job, group)

    def search(self, suite: Suite, name: str, method: Method) -> Search | None:
        """The tuning of a method here, on the validation images."""
        if method.tune is None:
            return None
        if not self.data.validation:
            raise SpecError(
                f"Method {name} is to be tuned, but the data set {self.data_name} has no validation images."
            )
        settings = grid(method)
        held = range(self.data.test, self.data.test + self.data.validation)
        jobs = tuple(replace(self.job(suite, method, i, self.task.seeds[0]), repeats=1, trace=False) for i in held)
        key = digest([[key_of(j, None) for j in jobs], settings, method.tune.model_dump()])
        return Search(key, self.data_name, self.task_name, name, settings, jobs)


def images(data: DataSet) -> torch.Tensor:
    """(test + validation, C, H, W): images for testing, then those for tuning, spread among them."""
    from pnpkit.training.posterior import complex_image

    pool = Pool([data.source], data.channels, data.size, augment=False, phase=data.complex, strict=True)
    total = data.test + data.validation
    if len(pool.images) < total and not pool.makers:
        raise SpecError(f"The data hold {len(pool.images)} images, the suite wants {total}.")
    x = pool.centres(total, data.size)
    x = complex_image(x) if data.complex else x
    if not data.validation:
        return x
    held = torch.linspace(0, total - 1, data.validation + 2)[1:-1].round().long()
    tests = torch.tensor([i for i in range(total) if i not in held.tolist()])
    return torch.cat([x[tests], x[held]])


def filled(config: Any, shape: list[int]) -> Any:
    """With "$shape", "$plane" and "$size" replaced."""
    known = {"$shape": shape, "$plane": [1, *shape[1:]], "$size": shape[-2:]}
    if isinstance(config, Mapping):
        return {k: filled(v, shape) for k, v in config.items()}
    if isinstance(config, list | tuple):
        return [filled(v, shape) for v in config]
    if isinstance(config, str) and config.startswith("$"):
        if config not in known:
            raise SpecError(f"{config} is not known in an operator's config; there are {', '.join(known)}.")
        return known[config]
    return config


def grid(method: Method) -> tuple[Config, ...]:
    """All combinations of a search, at most its budget of them when the grid is gone through in order."""
    assert method.tune is not None
    names = list(method.tune.search)
    found = [dict(zip(names, v, strict=True)) for v in itertools.product(*method.tune.search.values())]
    return tuple(found[: method.tune.budget] if method.tune.by == "grid" else found)


def with_settings(job: Job, settings: Mapping[str, Any]) -> Job:
    """The job with "prior.weight" or "solver.lam" set."""
    parts: Config = {"prior": job.prior, "solver": job.solver}
    for name, value in settings.items():
        where, *path, last = name.split(".")
        place = parts[where] = _mapping(parts[where])
        for step in path:
            place[step] = _mapping(place.get(step))
            place = place[step]
        place[last] = value
    return replace(job, **parts)


def _mapping(config: Any) -> Config:
    """A copy of a config; of a name too."""
    return {"name": config} if isinstance(config, str) else dict(config or {})
