"""What a suite would run, without running it: the grid, what is skipped and why, and about how long it takes."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from pnpkit.bench.plan import Plan
from pnpkit.bench.store import Store


def told(plan: Plan, store: Store, workers: int) -> Iterator[str]:
    """Lines to print."""
    suite = plan.suite
    done = {c.key for c in plan.cells if store.done(c.key) is not None}
    yield f"{suite.name}: {len(plan.cells)} cells, {len(done)} of them in {store.folder}"
    grid = Counter((c.data, c.task, c.method) for c in plan.cells)
    finished = Counter((c.data, c.task, c.method) for c in plan.cells if c.key in done)
    reasons = {(s.data, s.task, s.method): s.reason for s in plan.skipped}
    for data, task in dict.fromkeys((k[0], k[1]) for k in [*grid, *reasons]):
        yield f"{data} · {task}"
        for method in suite.methods:
            place = (data, task, method)
            if place in grid:
                tuned = next((s for s in plan.searches.values() if (s.data, s.task, s.method) == place), None)
                more = f", tuned over {len(tuned.settings)} settings" if tuned else ""
                yield f"  {method}: {grid[place]} cells ({finished[place]} finished){more}"
            elif place in reasons:
                yield f"  {method}: skipped. {reasons[place]}"
    seconds, unknown = estimate(plan, store, done)
    if seconds or not unknown:
        yield f"about {duration(seconds / workers)} with {workers} workers, from the times of past cells"
    if unknown:
        yield f"no time is known yet of: {', '.join(unknown)}"


def estimate(plan: Plan, store: Store, done: set[str]) -> tuple[float, list[str]]:
    """Seconds of work that is left, by the median of past cells of the same method and task; methods never timed."""
    past: dict[Any, list[float]] = defaultdict(list)
    for row in store.rows():
        if row["kind"] == "cell" and row["status"] == "done":
            past[row["task"], row["method"]].append(row["seconds"])
            past[row["method"]].append(row["seconds"])
    total, unknown = 0.0, {}

    def cost(task: str, method: str) -> float:
        times = past.get((task, method)) or past.get(method)
        if times is None:
            unknown[method] = None
            return 0.0
        return statistics.median(times)

    for cell in plan.cells:
        if cell.key not in done:
            total += plan.suite.repeats * cost(cell.task, cell.method)
    for search in plan.searches.values():
        if store.done(search.key) is None:
            total += len(search.settings) * len(search.jobs) * cost(search.task, search.method)
    return total, list(unknown)


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
