"""Keys of cells: sha256 of everything that a result depends on."""

import functools
import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pnpkit
from pnpkit import registry
from pnpkit.bench.job import Job, function
from pnpkit.priors.weights import file_digest, find


def key_of(job: Job, group: str | None) -> str:
    """Of a cell: its configs, data by content, the code, the weights, and the search that its settings come from."""
    told = {k: v for k, v in vars(job).items() if k not in ("timeout", "trace")}
    told |= {"x": Path(job.x).stem, "y": Path(job.y).stem, "group": group, "code": code_version()}
    told["weights"] = sorted(weights_in([job.prior, job.solver]))
    if job.call is not None:
        told["called"] = file_digest(Path(inspect.getfile(function(job.call))))
    return digest(told)


def digest(told: Any) -> str:
    """sha256 of plain data."""
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


@functools.cache
def code_version() -> str:
    """sha256 of the package's Python files, but those that only show results."""
    root = Path(pnpkit.__file__).parent
    files = sorted(p for p in root.rglob("*.py") if "report" not in p.parts and p.name not in ("cli.py", "listing.py"))
    found = hashlib.sha256()
    for path in files:
        found.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return found.hexdigest()[:16]


def weights_in(config: Any) -> Iterator[str]:
    """Digests of the weights that configs name."""
    shipped = registry.names("weights")
    if isinstance(config, Mapping):
        for k, v in config.items():
            if k == "weights" and isinstance(v, str) and v not in shipped:
                yield _of_file(v)
            else:
                yield from weights_in(v)
    elif isinstance(config, list | tuple):
        for v in config:
            yield from weights_in(v)
    elif isinstance(config, str) and config in shipped:
        yield registry.card(config)["sha256"]


@functools.cache
def _of_file(name: str) -> str:
    return file_digest(find(name))
