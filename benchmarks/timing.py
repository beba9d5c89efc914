"""Side-by-side timing for the benchmarks: interleaved calls, medians, one report format."""

import ctypes
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from pnpkit.bench.environment import cpu

RESULTS = Path(__file__).parent / "results"
_LOAD_AT_START = os.getloadavg()[0]

Cell = str | int | float | bool | None


def compare(
    functions: Mapping[str, Callable[[], object]], repeats: int = 51, threads: int = 1, unmeasured: int = 5
) -> dict[str, float]:
    """Median seconds of one call of each function, by name.

    Every round times one call of each function, starting one further along than the round before, so that load and
    clock speed meet all of them alike. Each timed call follows an untimed one of the same function, so that nobody
    profits from a neighbour that left the caches warm. The first rounds go ``unmeasured``. CUDA work is waited for.
    """
    _keep_memory()
    names = list(functions)
    times: dict[str, list[float]] = {name: [] for name in names}
    with _threads(threads), torch.no_grad():
        for k in range(-unmeasured, repeats):
            shift = k % len(names)
            for name in names[shift:] + names[:shift]:
                _seconds(functions[name])
                seconds = _seconds(functions[name])
                if k >= 0:
                    times[name].append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def write_report(
    name: str, rows: Sequence[Mapping[str, Cell]], command: str, notes: Sequence[str] = (), title: str = ""
) -> str:
    """Write benchmarks/results/<name>.json and .md, print and return the Markdown.

    rows : one mapping per line of the table, column -> value; columns in order of first appearance.
    command : what reproduces the figures. notes : sentences below the table.
    """
    machine = {
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "load_at_start": round(_LOAD_AT_START, 2),
        "load_at_end": round(os.getloadavg()[0], 2),
    }
    report = {"command": command, "machine": machine, "notes": list(notes), "rows": [dict(r) for r in rows]}
    columns = list(dict.fromkeys(c for row in rows for c in row))
    table = [columns, ["---"] * len(columns), *([_shown(row.get(c)) for c in columns] for row in rows)]
    head = f"`{command}` on {machine['cpu']} ({machine['cores']} cores), torch {machine['torch']}; "
    head += f"load average {machine['load_at_start']} before, {machine['load_at_end']} after."
    body = ["| " + " | ".join(cells) + " |" for cells in table]
    text = "\n".join(
        [f"# {title or name.replace('_', ' ').capitalize()}", "", head, "", *body, "", *(f"- {n}" for n in notes)]
    )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    (RESULTS / f"{name}.md").write_text(text.rstrip() + "\n")
    print(text)
    return text


def _seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    result = function()
    if isinstance(result, torch.Tensor) and result.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _keep_memory() -> None:
    """Ask glibc to keep freed memory: page faults would otherwise double some times from run to run."""
    if platform.libc_ver()[0] == "glibc":
        trim_threshold, mmap_threshold = -1, -3
        for parameter in (trim_threshold, mmap_threshold):
            ctypes.CDLL(None).mallopt(parameter, 1 << 30)


@contextmanager
def _threads(n: int):
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _shown(value: Cell) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
