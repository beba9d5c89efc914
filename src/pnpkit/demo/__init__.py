"""``pnpkit demo``: real photographs and MRI, degraded and restored, with a table and a report."""

import os
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pnpkit.errors import DataError


def run(out: Path, quick: bool = False, threads: int = 2, console: Console | None = None) -> Path:
    """Run every case, print the table, write ``out/index.html`` and ``out/table.md``; returns the page's path."""
    import torch

    from pnpkit.demo import mri, photographs
    from pnpkit.demo.cases import run_case
    from pnpkit.demo.report import write

    console = console or Console()
    out.mkdir(parents=True, exist_ok=True)
    data = _data_folder(console)
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        outcomes = []
        for case in [*photographs.cases(data, quick), *mri.cases(data, quick)]:
            outcomes.append(run_case(case, quick))
            best = max(outcomes[-1].rows, key=lambda r: r.psnr)
            console.print(f"{case.title}: best {best.psnr:.2f} dB by {best.method}", highlight=False)
    finally:
        torch.set_num_threads(before)
    console.print(table(outcomes))
    (out / "table.md").write_text(markdown(outcomes))
    page = out / "index.html"
    write(page, outcomes, threads)
    console.print(f"report: {page.absolute()}")
    return page


def _data_folder(console: Console) -> Path | None:
    value = os.environ.get("PNPKIT_DATA")
    if not value:
        console.print("PNPKIT_DATA is not set: without the real brain k-space and FFDNet's weights.")
        return None
    if not Path(value).is_dir():
        raise DataError(f"PNPKIT_DATA is {value}, which is not a folder.")
    return Path(value)


def table(outcomes: list) -> Table:
    """PSNR, SSIM and seconds of every method on every case; the best PSNR in bold."""
    result = Table(*("case", "method"), box=SIMPLE_HEAD)
    for name in ("PSNR dB", "SSIM", "seconds"):
        result.add_column(name, justify="right")
    for outcome in outcomes:
        best = max(r.psnr for r in outcome.rows)
        for i, r in enumerate(outcome.rows):
            figures = (f"{r.psnr:.2f}", f"{r.ssim:.3f}", f"{r.seconds:.1f}")
            result.add_row(
                "" if i else outcome.case.title,
                r.method,
                *figures,
                style="bold" if r.psnr == best else None,
                end_section=r is outcome.rows[-1],
            )
    return result


def markdown(outcomes: list) -> str:
    """The same table as Markdown."""
    lines = ["| case | method | PSNR dB | SSIM | seconds |", "|---|---|---|---|---|"]
    for outcome in outcomes:
        best = max(r.psnr for r in outcome.rows)
        for r in outcome.rows:
            value = f"**{r.psnr:.2f}**" if r.psnr == best else f"{r.psnr:.2f}"
            lines.append(f"| {outcome.case.title} | {r.method} | {value} | {r.ssim:.3f} | {r.seconds:.1f} |")
    return "\n".join(lines) + "\n"
