"""The demo in its smoke-test form."""

from rich.console import Console

from pnpkit.demo import run


def test_quick_demo_writes_one_self_contained_page(tmp_path, monkeypatch):
    monkeypatch.delenv("PNPKIT_DATA", raising=False)
    console = Console(record=True, width=200)
    page = run(tmp_path / "report", quick=True, threads=1, console=console).read_text()
    assert page.count("data:image/jpeg") > 20 and "http" not in page.replace("http-equiv", "")
    for text in ("closed-form TV", "MRI phantom", "PSNR", "error maps", "<svg"):
        assert text in page
    assert "astronaut: motion blur" in console.export_text()
