"""The live view: what a person sees while a suite runs."""

import io

from rich.console import Console

from pnpkit.bench.live import live
from pnpkit.bench.runner import Progress


def shown(state: Progress) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=120)
    with live(console, "psnr") as watch:
        assert watch is not None
        watch(state)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_cells_executor_and_best_are_shown():
    state = Progress(8, "local", running=2, lost=1, finished=8, failed=3, reused=4)
    state.best["photographs", "blur"] = ("TV", 27.123)
    text = shown(state)
    for part in ("8/8", "local: 2 running, 4 from the store, 3 failed, 1 lost their worker", "blur", "TV: 27.12"):
        assert part in text
    assert "choosing settings in 2 searches" in shown(Progress(8, "ray", searches=2, finished=8))


def test_nothing_is_drawn_into_a_file():
    with live(Console(file=io.StringIO()), "psnr") as watch:
        assert watch is None
