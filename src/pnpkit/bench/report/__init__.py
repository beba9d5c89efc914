"""``pnpkit report``: one self-contained HTML page of a suite's results."""

from pathlib import Path

from pnpkit.bench.store import Store
from pnpkit.errors import DataError


def write(store: Store, suite: str | None, out: Path) -> int:
    """Write the page; its size in bytes."""
    from pnpkit.bench.report.digest import digest
    from pnpkit.bench.report.page import page

    if not out.absolute().parent.is_dir():
        raise DataError(f"The folder {out.absolute().parent} does not exist; make it first.")
    text = page(digest(store, suite), store)
    out.write_text(text, encoding="utf-8")
    return len(text.encode())
