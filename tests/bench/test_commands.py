"""``pnpkit bench``, ``report`` and ``store``, as a user runs them."""

import json

import pytest

from pnpkit.bench.store import Store

from .toys import written


@pytest.fixture
def ready(tmp_path, pnpkit):
    """A finished suite: its file and its store."""
    path, store = written(tmp_path), tmp_path / "store"
    code, out, err = pnpkit("bench", str(path), "--store", str(store), "--executor", "inline")
    assert code == 0 and "toy: 4 cells run, 0 from the store, 0 failed" in out, err
    return path, store


def test_a_second_run_has_nothing_to_do_and_a_page_is_written(ready, pnpkit, tmp_path):
    path, store = ready
    code, out, _ = pnpkit("bench", str(path), "--store", str(store), "--executor", "inline")
    assert code == 0 and "0 cells run, 4 from the store" in out
    code, out, _ = pnpkit("report", "--store", str(store), "--out", str(tmp_path / "page.html"))
    assert code == 0 and "wrote" in out and (tmp_path / "page.html").stat().st_size > 10_000


def test_a_dry_run_runs_nothing(tmp_path, pnpkit):
    path, store = written(tmp_path), tmp_path / "store"
    code, out, _ = pnpkit("bench", str(path), "--store", str(store), "--dry-run", "--method", "TV")
    assert code == 0 and "toy: 2 cells, 0 of them" in out and "tikhonov" not in out
    assert not Store(store).rows()


def test_worse_than_published_ends_with_6(ready, pnpkit, tmp_path):
    path, store = ready
    published = tmp_path / "published.json"
    same = ("bench", str(path), "--store", str(store), "--executor", "inline")
    assert pnpkit(*same, "--publish", str(published))[0] == 0
    code, out, _ = pnpkit(*same, "--against", str(published))
    assert code == 0 and "not worse than" in out
    told = json.loads(published.read_text())
    for cell in told["results"].values():
        for metrics in cell["images"].values():
            metrics["psnr"] += 1.0
    published.write_text(json.dumps(told))
    code, _, err = pnpkit(*same, "--against", str(published))
    assert code == 6 and "psnr changed by -1.000" in err
    published.write_text("{}")
    code, _, err = pnpkit(*same, "--against", str(published))
    assert code == 2 and "not a summary of" in err


def test_stores_are_checked_exported_and_salvaged(ready, pnpkit, tmp_path):
    _, store = ready
    assert pnpkit("store", "check", "--store", str(store))[0] == 0
    code, out, _ = pnpkit("store", "export", str(tmp_path / "cells.csv"), "--store", str(store))
    assert code == 0 and "wrote 4 rows" in out
    code, out, _ = pnpkit("store", "salvage", str(store), str(tmp_path / "new"))
    assert code == 0 and "0 rows could not be read" in out
    code, _, err = pnpkit("store", "salvage", str(store), str(tmp_path / "new"))
    assert code == 2 and "exists; give a folder that does not" in err
    code, _, err = pnpkit("report", "--store", str(tmp_path / "nowhere"))
    assert code == 2 and "There is no store in" in err


def test_mistakes_are_one_paragraph(tmp_path, pnpkit):
    code, _, err = pnpkit("bench", "quik")
    assert code == 2 and "Did you mean 'quick'" in err and "Traceback" not in err
    path = written(tmp_path)
    code, _, err = pnpkit("bench", str(path), "--store", str(tmp_path / "s"), "--set", "metrics=[psn]")
    assert code == 2 and "Did you mean 'psnr'" in err
    code, _, err = pnpkit("bench", str(path), "--store", str(tmp_path / "s"), "--task", "nothing")
    assert code == 2 and "No task has 'nothing' in its name" in err
