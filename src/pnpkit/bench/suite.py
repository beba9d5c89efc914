"""A suite: data sets × tasks × methods × metrics in one YAML file, checked before anything is read or run."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from pnpkit import registry
from pnpkit.errors import DataError, SpecError, suggest
from pnpkit.io.mappings import lines_of, read_mapping
from pnpkit.training.sources import AnySource

SHIPPED = Path(__file__).parent / "suites"
Config = dict[str, Any]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSet(Part):
    """Images of a source: central crops, those for tuning spread among those for testing.

    source : as in a training recipe. channels : of the images. complex : real images get a smooth random phase.
    size : side of the crops. test, validation : how many. data_range : of the metrics, peak to peak.
    """

    source: AnySource
    channels: PositiveInt = 1
    complex: bool = False
    size: PositiveInt = 128
    test: PositiveInt
    validation: NonNegativeInt = 0
    data_range: PositiveFloat = 1.0


class Task(Part):
    """An operator with its noise.

    operator : a config; in it "$shape" stands for an image's (C, H, W), "$plane" for (1, H, W), "$size" for (H, W).
    noise : a likelihood's config. seeds : one measurement of every image each.
    unknown : parameters of the operator that methods are not told, each with the value they are given in its place.
    data : names of the data sets it is for; all when None.
    """

    operator: Config
    noise: Config
    unknown: Config = {}
    seeds: tuple[NonNegativeInt, ...] = (0,)
    data: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _unknown_is_in_the_operator(self) -> "Task":
        parameters = [k for k in self.operator if k != "name"]
        for name in self.unknown:
            if name not in parameters:
                raise ValueError(f"the operator is given no {name!r} to leave unknown.{suggest(name, parameters)}")
        return self


class Tuning(Part):
    """Settings to choose from, by ``metric`` on the validation images.

    search : dotted name -> values, e.g. "solver.lam": [0.1, 0.3]. budget : how many combinations are tried; all of the
    grid when None. by : the whole grid in order, or Optuna's TPE over the listed values.
    """

    search: dict[str, list[Any]] = Field(min_length=1)
    metric: str = "psnr"
    by: Literal["grid", "optuna"] = "grid"
    budget: PositiveInt | None = None

    @model_validator(mode="after")
    def _can_be_searched(self) -> "Tuning":
        if self.by == "optuna" and self.budget is None:
            raise ValueError("Optuna needs a budget: how many settings to try")
        for name in self.search:
            if not re.match(r"(prior|solver)\.\w", name):
                raise ValueError(f"a setting to search is prior.NAME or solver.NAME, given {name!r}")
        return self


class Method(Part):
    """A prior and a solver, or a command that reads and writes .npy, or a Python function.

    prior, solver, scale : as in ``compose``. chains : of samplers. tune : how settings are chosen.
    oracle : it is told what its tasks leave unknown.
    command : a program and its arguments; in them {y}, {out}, {operator}, {noise} are files (.npy, .npy, .json, .json).
    call : "module:function", called as function(operator, noise, **settings) with the two configs; what it returns is
        called as reconstruct(y) and gives x, NumPy both, and is what is timed.
    tasks : names of the tasks it is for; all when None.
    """

    prior: Any = None
    solver: Any = None
    scale: Any = "auto"
    chains: PositiveInt = 1
    tune: Tuning | None = None
    oracle: bool = False
    command: tuple[str, ...] | None = None
    call: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None = None
    settings: Config = {}
    tasks: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _is_one_thing(self) -> "Method":
        ours = self.prior is not None or self.solver is not None
        if (self.command is not None) + (self.call is not None) + ours > 1:
            raise ValueError("a method has either a command, or a call, or a prior and a solver")
        if self.settings and self.call is None:
            raise ValueError("settings are arguments of the function that is called; there is no call")
        if self.tune is not None and (self.command is not None or self.call is not None):
            raise ValueError("only a prior and a solver can be tuned")
        return self


Name = Annotated[str, Field(pattern=r"^[^/|]+$", max_length=80)]


class Suite(Part):
    """Everything that decides what is compared.

    metrics : registered metrics. baseline : the method that differences are taken against; the first when None.
    repeats : timed runs of every cell. threads : torch threads in a cell. timeout : seconds, and memory : GiB, that a
    cell may take. limit : more cells than this are refused.
    """

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    about: str = ""
    data: dict[Name, DataSet] = Field(min_length=1)
    tasks: dict[Name, Task] = Field(min_length=1)
    methods: dict[Name, Method] = Field(min_length=1)
    metrics: tuple[str, ...] = ("psnr", "ssim")
    baseline: str | None = None
    repeats: PositiveInt = 1
    threads: PositiveInt = 1
    timeout: PositiveFloat = 600.0
    memory: PositiveFloat = 8.0
    limit: PositiveInt = 100_000

    @model_validator(mode="after")
    def _names_exist(self) -> "Suite":
        for metric in self.metrics:
            _known("metric", metric, registry.names("metrics"))
        if self.baseline is not None:
            _known("baseline", self.baseline, self.methods)
        for name, method in self.methods.items():
            for task in method.tasks or ():
                _known("task", task, self.tasks)
            if method.oracle and not any(self.tasks[t].unknown for t in method.tasks or self.tasks):
                raise ValueError(f"method {name!r} is an oracle, but none of its tasks leaves anything unknown")
            if method.tune is not None:
                _known("metric to tune by", method.tune.metric, self.metrics)
        for task in self.tasks.values():
            for data in task.data or ():
                _known("data set", data, self.data)
        return self


def _known(what: str, name: str, names: Sequence[str] | Mapping[str, Any]) -> None:
    if name not in names:
        raise ValueError(f"there is no {what} {name!r}.{suggest(name, names)}")


def read_suite(path: str | Path, overrides: Sequence[str] = ()) -> Suite:
    """A suite file, or the name of a shipped one; ``overrides`` are "methods.TV.solver.n_steps=50".

    SpecError names the line of the first mistakes.
    """
    path = Path(path)
    shipped = {p.stem: p for p in SHIPPED.glob("*.yaml")}
    if not path.is_file() and str(path) in shipped:
        path = shipped[str(path)]
    if not path.is_file():
        raise DataError(f"Suite {path} does not exist.{suggest(str(path), shipped)}")
    told = read_mapping(path, "Suite")
    for override in overrides:
        _override(told, override)
    try:
        return Suite(**told)
    except ValidationError as error:
        raise SpecError(_sentences(path, error, {} if overrides else lines_of(path))) from error
    except TypeError as error:
        raise SpecError(f"{path}: {error}.") from error


def _override(told: Config, text: str) -> None:
    import yaml

    where, equals, value = text.partition("=")
    if not equals or not where:
        raise SpecError(f"An override is name.name=value, given {text!r}.")
    place: Any = told
    *path, last = re.split(r"\.(?![^\[]*\])", where)
    for part in path:
        if not isinstance(place, dict) or part not in place:
            raise SpecError(f"Override {text!r}: the suite has no {part!r} there.{suggest(part, place or ())}")
        place = place[part]
    if not isinstance(place, dict):
        raise SpecError(f"Override {text!r}: {path[-1]!r} is not a mapping.")
    place[last] = yaml.safe_load(value)


def _sentences(path: Path, error: ValidationError, lines: dict[tuple[Any, ...], int]) -> str:
    found = []
    for e in error.errors()[:3]:
        where = tuple(p for p in e["loc"] if p not in SOURCES)
        line = next((lines[where[:i]] for i in range(len(where), 0, -1) if where[:i] in lines), None)
        model = _model_at(where[:-1])
        hint = suggest(str(where[-1]), model.model_fields) if where and model and e["type"] == "extra_forbidden" else ""
        given = "" if e["type"] in ("missing", "value_error", "extra_forbidden") else f", given {e['input']!r:.60}"
        message = "unknown field" if e["type"] == "extra_forbidden" else e["msg"].removeprefix("Value error, ")
        at = ".".join(map(str, where)) + ": " if where else ""
        found.append(f"{path}{f', line {line}' if line else ''}: {at}{message.rstrip('.')}{given}.{hint}")
    return " ".join(found)


UNION = get_args(AnySource)[0]
SOURCES = tuple(s.model_fields["kind"].default for s in get_args(UNION))  # pydantic's tags in locations


def _model_at(where: tuple[Any, ...]) -> type[BaseModel] | None:
    kinds = {"data": DataSet, "tasks": Task, "methods": Method}
    if not where:
        return Suite
    if where[-1] == "tune":
        return Tuning
    return kinds.get(where[0]) if len(where) == 2 else None
