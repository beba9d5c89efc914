"""What the benchmark runner costs: python benchmarks/bench_overhead.py [process] [pool] [ray]

Milliseconds that a small cell takes in process and through Ray; and how many cells a second four workers of one thread
finish against one, on cells of about a third of a second. Named parts are measured, the others' rows stay.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from timing import RESULTS, Cell, write_report

from pnpkit.bench.executors import Executor, Inline, Local, Ray, Work
from pnpkit.bench.job import Answer
from pnpkit.bench.plan import Plan, plan
from pnpkit.bench.runner import Runner
from pnpkit.bench.store import Store
from pnpkit.bench.suite import Suite

WORKERS, RAY_CPUS = 4, 2
Row = dict[str, Cell]


def suite(seeds: int, steps: int, side: int) -> Suite:
    blur = {"name": "blur", "kernel": {"make": "gaussian_kernel", "size": 5, "std": 1.0}, "shape": "$shape"}
    return Suite(
        name="overhead",
        data={"camera": {"source": {"kind": "samples", "names": ["camera"], "size": side}, "size": side, "test": 1}},  # type: ignore[dict-item]
        tasks={"blur": {"operator": blur, "noise": {"name": "gaussian", "sigma": 0.05}, "seeds": tuple(range(seeds))}},  # type: ignore[dict-item]
        methods={"TV": {"prior": {"name": "tv", "weight": 2.0}, "solver": {"name": "pdhg", "n_steps": steps}}},  # type: ignore[dict-item]
        metrics=("psnr",),
    )


class Instant(Inline):
    """Answers at once: what is left is the runner and the store."""

    def results(self):
        if self.waiting:
            told = {"metrics": {"psnr": 1.0}, "seconds": 0.1, "memory_mib": 1.0, "calls": {}, "steps": 1, "notes": []}
            yield self.waiting.popleft(), Answer("done", told)


def seconds(made: Plan, store: Store, executor: Executor) -> float:
    with executor as where:
        began = time.perf_counter()
        Runner(made, store, where).run()
        return time.perf_counter() - began


def warm(pool: Executor, made: Plan, count: int) -> Executor:
    """Workers started, libraries imported."""
    for _ in range(2 * count):
        pool.submit(Work("warm", (made.cells[0].job,)))
    while pool.busy:
        list(pool.results())
    return pool


def timed(told: Suite, executor: Executor, workers: int = 0) -> float:
    """Seconds of a suite in a new store; ``workers`` are warmed first."""
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(Path(scratch))
        made = plan(told, store)
        return seconds(made, store, warm(executor, made, workers) if workers else executor)


def each(what: str, cells: int, spent: float) -> Row:
    return {"what": what, "cells": cells, "ms a cell": f"{1000 * spent / cells:.2f}"}


def in_process() -> Iterator[Row]:
    yield each("runner and store alone", 400, timed(suite(400, 2, 32), Instant()))
    yield each("in process, 2 steps of TV on 32×32", 200, timed(suite(200, 2, 32), Inline()))


def in_a_pool() -> Iterator[Row]:
    speeds = {w: 32 / timed(suite(32, 300, 256), Local(w), w) for w in (1, WORKERS)}
    for workers, speed in speeds.items():
        gain = {} if workers == 1 else {"× one worker": f"{speed / speeds[1]:.2f}"}
        yield {"what": f"pool of {workers}", "cells": 32, "cells a second": f"{speed:.2f}", **gain}


def through_ray() -> Iterator[Row]:
    """A cluster of this machine alone, started and stopped here; the limit is 50 ms a cell."""
    import ray

    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    ray.init(num_cpus=RAY_CPUS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        spent = timed(suite(200, 2, 32), Ray(memory=0), 4 * RAY_CPUS)
    finally:
        ray.shutdown()
    yield each(f"Ray, {RAY_CPUS} CPUs, 2 steps of TV on 32×32", 200, spent)


PARTS = {"process": in_process, "pool": in_a_pool, "ray": through_ray}


def main() -> None:
    torch.set_num_threads(1)
    chosen = sys.argv[1:] or list(PARTS)
    if unknown := set(chosen) - set(PARTS):
        sys.exit(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    rows = [row for part in chosen for row in PARTS[part]()]
    notes = [
        "Workers are started and warm before the clock runs; one thread each. A pool cell: 300 steps of TV on 256×256.",
        "ms a cell: the whole time by the number of cells, the cell's own work included; limits are 5 ms in process "
        "and 50 ms through Ray.",
    ]
    if (cores := len(os.sched_getaffinity(0))) < (os.cpu_count() or 1):
        notes.append(f"Measured with all processes on {cores} core: {'; '.join(str(row['what']) for row in rows)}.")
    kept = [row for row in _last() if row["what"] not in {r["what"] for r in rows}]
    if kept:
        notes.append(f"Of an earlier run: {'; '.join(str(row['what']) for row in kept)}.")
    command = " ".join(["python benchmarks/bench_overhead.py", *sys.argv[1:]])
    write_report("bench_overhead", [*rows, *kept], command, notes, "Benchmark runner: what it costs")


def _last() -> list[Row]:
    """Rows of the last report: parts that are not measured now stay."""
    path = RESULTS / "bench_overhead.json"
    return json.loads(path.read_text())["rows"] if path.is_file() else []


if __name__ == "__main__":
    main()
