"""A live view of a run: cells finished, time left, what runs, and the best method so far."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pnpkit.bench.runner import Progress as State
from pnpkit.bench.runner import Watch

EVERY = 0.2  # seconds between two pictures


@contextmanager
def live(console: Console, metric: str) -> Iterator[Watch | None]:
    """A function for ``Runner(watch=…)``; None where the output is not a terminal."""
    if not console.is_terminal:
        yield None
        return
    bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    task = bar.add_task("cells", total=None)
    last = 0.0
    with Live(Group(bar), console=console, refresh_per_second=4) as view:

        def watch(state: State) -> None:
            nonlocal last
            if time.monotonic() - last < EVERY and state.finished < state.total:
                return
            last = time.monotonic()
            bar.update(task, total=state.total, completed=state.finished)
            view.update(Group(bar, _told(state), _table(state, metric)))

        yield watch


def _table(state: State, metric: str) -> Table:
    table = Table("data", "task", f"best {metric} so far")
    for (data, task), (method, value) in state.best.items():
        table.add_row(data, task, f"{method}: {value:.2f}")
    return table


def _told(state: State) -> str:
    """What the executor does, and what is not as usual."""
    told = [f"{state.executor}: {state.running} running"]
    told += [f"choosing settings in {state.searches} searches"] if state.searches else []
    counts = {"from the store": state.reused, "failed": state.failed, "lost their worker": state.lost}
    return ", ".join(told + [f"{n} {what}" for what, n in counts.items() if n])
