"""A suite that takes moments: two tiny images, closed-form methods."""

from pathlib import Path
from typing import Any

import yaml

from pnpkit.bench.executors import Executor, Inline
from pnpkit.bench.plan import Plan, plan
from pnpkit.bench.runner import Progress, Runner
from pnpkit.bench.store import Store
from pnpkit.bench.suite import Suite

GAUSSIAN = {"make": "gaussian_kernel", "size": 5, "std": 1.0}
SUITE: dict[str, Any] = {
    "name": "toy",
    "data": {
        "shapes": {
            "source": {"kind": "samples", "names": ["camera", "coins", "moon", "page"], "size": 40},
            "size": 24, "test": 2, "validation": 1,
        }
    },
    "tasks": {
        "blur": {
            "operator": {"name": "blur", "kernel": GAUSSIAN, "shape": "$shape"},
            "noise": {"name": "gaussian", "sigma": 0.05},
        }
    },
    "methods": {
        "tikhonov": {"prior": {"name": "tikhonov", "weight": 10.0}, "solver": {"name": "fista", "n_steps": 5}},
        "TV": {
            "prior": {"name": "tv"}, "solver": {"name": "pdhg", "n_steps": 5},
            "tune": {"search": {"prior.weight": [1.0, 5.0, 25.0]}},
        },
    },
    "metrics": ["psnr", "nmse"],
}  # fmt: skip


def suite(**changes: Any) -> Suite:
    """``changes`` replace parts at dotted names with "__" between them."""
    import copy

    told = copy.deepcopy(SUITE)
    for name, value in changes.items():
        place = told
        *path, last = name.split("__")
        for part in path:
            place = place[part]
        place[last] = value
    return Suite(**told)


def written(folder: Path, text: str | None = None) -> Path:
    """The suite as a file."""
    path = folder / "toy.yaml"
    path.write_text(text if text is not None else yaml.safe_dump(SUITE, sort_keys=False))
    return path


def run(made: Plan | Suite, store: Store, executor: Executor | None = None) -> Progress:
    made = made if isinstance(made, Plan) else plan(made, store)
    with executor or Inline() as where:
        return Runner(made, store, where).run()
