"""What the benchmark runner costs: python benchmarks/bench_overhead.py

Milliseconds that a cell takes beyond its own time, in process and in a pool; and how many cells a second four workers
of one thread finish against one, on cells of about a third of a second.
"""

import tempfile
import time
from pathlib import Path

import torch
from timing import write_report

from pnpkit.bench.executors import Executor, Inline, Local, Work
from pnpkit.bench.job import Answer
from pnpkit.bench.plan import Plan, plan
from pnpkit.bench.runner import Runner
from pnpkit.bench.store import Store
from pnpkit.bench.suite import Suite

WORKERS = 4


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


def warm(pool: Local, made: Plan) -> Local:
    """Workers started, libraries imported."""
    for _ in range(2 * pool.workers):
        pool.submit(Work("warm", (made.cells[0].job,)))
    while pool.busy:
        list(pool.results())
    return pool


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        stores = (Store(Path(scratch) / str(i)) for i in range(10))
        store = next(stores)
        made = plan(suite(400, 2, 32), store)
        spent = seconds(made, store, Instant())
        rows.append({"what": "runner and store alone", "cells": 400, "ms a cell": f"{1000 * spent / 400:.2f}"})
        store = next(stores)
        made = plan(suite(200, 2, 32), store)
        spent = seconds(made, store, Inline())
        rows.append(
            {"what": "in process, 2 steps of TV on 32×32", "cells": 200, "ms a cell": f"{1000 * spent / 200:.2f}"}
        )
        speeds = {}
        for workers in (1, WORKERS):
            store = next(stores)
            made = plan(suite(32, 300, 256), store)
            speeds[workers] = 32 / seconds(made, store, warm(Local(workers), made))
            rows.append({"what": f"pool of {workers}", "cells": 32, "cells a second": f"{speeds[workers]:.2f}"})
        rows[-1]["× one worker"] = f"{speeds[WORKERS] / speeds[1]:.2f}"
    notes = [
        "Workers are started and warm before the clock runs; one thread each. A pool cell: 300 steps of TV on 256×256."
    ]
    write_report(
        "bench_overhead", rows, "python benchmarks/bench_overhead.py", notes, "Benchmark runner: what it costs"
    )


if __name__ == "__main__":
    main()
