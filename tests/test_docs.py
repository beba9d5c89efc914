"""The documentation's Python blocks run, page by page and in order."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```python\n(?!--8<--)(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [p for p in sorted(DOCS.rglob("*.md")) if BLOCK.search(p.read_text(encoding="utf8"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": page.stem}
    for block in BLOCK.findall(page.read_text(encoding="utf8")):
        exec(compile(block, str(page), "exec"), namespace)
    assert len(namespace) > 2, "no block of the page defined anything"
