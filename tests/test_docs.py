"""The Python blocks of the documentation and the README run, page by page and in order."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(?!--8<--)(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [
    p
    for p in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if BLOCK.search(p.read_text(encoding="utf8"))
]
READERS_OWN: dict[str, object] = {  # what a page assumes that its reader has
    "x": torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0)),
    "network": lambda z, t: torch.zeros_like(z),
    "mask": torch.ones(1, 24, 16),
    "maps": torch.ones(2, 24, 16, dtype=torch.complex64) / 2**0.5,
    "kspace": torch.randn(1, 2, 24, 16, dtype=torch.complex64, generator=torch.Generator().manual_seed(0)),
}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": page.stem, **READERS_OWN}
    for block in BLOCK.findall(page.read_text(encoding="utf8")):
        exec(compile(block, str(page), "exec"), namespace)
    assert len(namespace) > 2 + len(READERS_OWN), "no block of the page defined anything"
