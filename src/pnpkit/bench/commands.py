"""``pnpkit bench``, ``pnpkit report`` and ``pnpkit store``."""

import json
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

from pnpkit.errors import DataError, PnpkitError, SpecError

console = Console()
store_app = typer.Typer(help="Stores of benchmark results.", no_args_is_help=True)
STORE = Path("runs/bench")
Folder = Annotated[Path, typer.Option("--store", help="Where results are kept.")]


class Worse(PnpkitError):
    """Results are worse than published ones."""

    exit_code = 6


def bench(
    suite: Annotated[str, typer.Argument(help="A suite file (YAML), or the name of a shipped one.")],
    store: Folder = STORE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would run, and about how long.")] = False,
    workers: Annotated[int, typer.Option(help="Processes at once.", min=1)] = 2,
    executor: Annotated[Literal["local", "inline", "ray"], typer.Option(help="Where cells run.")] = "local",
    address: Annotated[str, typer.Option(help="Of the Ray cluster.")] = "auto",
    set_: Annotated[list[str] | None, typer.Option("--set", help="methods.TV.solver.n_steps=50; repeatable.")] = None,
    data: Annotated[str | None, typer.Option(help="Only data sets with this in their name.")] = None,
    task: Annotated[str | None, typer.Option(help="Only tasks with this in their name.")] = None,
    method: Annotated[str | None, typer.Option(help="Only methods with this in their name.")] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Run failed cells again.")] = False,
    against: Annotated[Path | None, typer.Option(help="Published results: end with 6 when these are worse.")] = None,
    publish: Annotated[Path | None, typer.Option(help="Write a summary (JSON) to publish or compare with.")] = None,
) -> None:
    """Run a suite: what is in the store already is not run again; killed at any time, the same command goes on."""
    from pnpkit.bench import dry_run as dry
    from pnpkit.bench.live import live
    from pnpkit.bench.plan import plan
    from pnpkit.bench.publish import regressions, summary
    from pnpkit.bench.runner import Runner
    from pnpkit.bench.store import Store
    from pnpkit.bench.suite import read_suite

    told = read_suite(suite, set_ or [])
    kept = Store(store)
    select = {k: v for k, v in (("data", data), ("task", task), ("method", method)) if v}
    made = plan(told, kept, select)
    if dry_run:
        for line in dry.told(made, kept, workers):
            console.print(escape(line), highlight=False, soft_wrap=True)
        return
    if retry:
        for cell in made.cells:
            kept.forget(cell.key)
    with (
        _executor(executor, workers, told.threads, told.memory, address) as where,
        live(console, told.metrics[0]) as watch,
        _interruptible(),
    ):
        end = Runner(made, kept, where, watch).run()
    new = end.finished - end.reused
    console.print(f"{told.name}: {new} cells run, {end.reused} from the store, {end.failed} failed", highlight=False)
    for s in made.skipped:
        console.print(escape(f"skipped: {s.method} on {s.task}. {s.reason}"), highlight=False, soft_wrap=True)
    found = summary(kept, told.name)
    if publish is not None:
        publish.write_text(json.dumps(found, indent=1) + "\n")
    if against is not None:
        worse = regressions(found, _published(against), told.metrics[0])
        if worse:
            raise Worse(f"Worse than {against}: " + " ".join(worse))
        console.print(f"not worse than {against}", highlight=False)


@contextmanager
def _interruptible():
    """Ctrl-C ends the run between two results, with a sentence."""
    try:
        yield
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on from here")
        raise typer.Exit(130) from None


def _executor(kind: str, workers: int, threads: int, memory: float, address: str):
    from pnpkit.bench.executors import Inline, Local, Ray

    if kind == "inline":
        return Inline()
    return Local(workers, threads, memory) if kind == "local" else Ray(address, threads, memory)


def _published(path: Path) -> dict:
    try:
        told = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}.") from error
    if "results" not in told:
        raise DataError(f"{path} is not a summary of `pnpkit bench --publish`.")
    return told


def report(
    store: Folder = STORE,
    suite: Annotated[str | None, typer.Option(help="Which suite; the last one run when left out.")] = None,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("report.html"),
) -> None:
    """One self-contained HTML page: leaderboard, trade-offs, pictures, failures, how to reproduce every cell."""
    from pnpkit.bench.report import write

    size = write(_opened(store), suite, out)
    console.print(f"wrote {out} ({size / 1e6:.1f} MB)", highlight=False)


def _opened(folder: Path):
    from pnpkit.bench.store import Store

    if not (folder / "store.sqlite").is_file():
        raise DataError(f"There is no store in {folder}; run `pnpkit bench SUITE --store {folder}` first.")
    return Store(folder)


@store_app.command("export")
def export_command(
    out: Annotated[Path, typer.Argument(help="A .jsonl, .csv or .parquet file.")],
    store: Folder = STORE,
    suite: Annotated[str | None, typer.Option(help="Only this suite.")] = None,
) -> None:
    """Write the cells as tidy rows."""
    from pnpkit.bench.publish import export

    console.print(f"wrote {export(_opened(store), out, suite)} rows to {out}", highlight=False)


@store_app.command("check")
def check_command(store: Folder = STORE) -> None:
    """Whether the store is whole."""
    from pnpkit.bench.store import StoreError

    if problem := _opened(store).check():
        raise StoreError(f"{store} is damaged: {problem}. `pnpkit store salvage {store} NEW_FOLDER` saves what it can.")
    console.print(f"{store} is whole")


@store_app.command("salvage")
def salvage_command(
    damaged: Annotated[Path, typer.Argument(help="The folder of the damaged store.")],
    target: Annotated[Path, typer.Argument(help="A new folder.")],
) -> None:
    """Copy what can still be read of a damaged store into a new one."""
    from pnpkit.bench.store import salvage

    if target.exists():
        raise SpecError(f"{target} exists; give a folder that does not.")
    kept, lost = salvage(damaged, target)
    console.print(f"{kept} cells copied, {lost} rows could not be read", highlight=False)
