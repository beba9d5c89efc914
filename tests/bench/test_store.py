"""The store: what is kept through kills, two runners, old versions, damage and a full disk."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pnpkit.bench import store as module
from pnpkit.bench.plan import plan
from pnpkit.bench.store import Store, StoreError, salvage
from pnpkit.errors import DataError

from .toys import run, suite, written

PLACE = {"suite": "s", "kind": "cell", "data": "d", "task": "t", "method": "m", "image": 0, "seed": 0}


def test_a_cell_is_kept_once_and_never_changed(tmp_path):
    store = Store(tmp_path)
    assert store.done("k") is None and store.claim("k")
    assert store.write("k", PLACE, "done", {"metrics": {"psnr": 1.0}}, "e")
    assert not store.write("k", PLACE, "done", {"metrics": {"psnr": 2.0}}, "e")
    assert not store.claim("k")
    assert Store(tmp_path).done("k") == {"status": "done", "metrics": {"psnr": 1.0}}
    (row,) = store.rows("s")
    assert row["method"] == "m" and row["metrics"] == {"psnr": 1.0} and store.suites() == ["s"]


def test_a_claim_holds_while_its_runner_lives(tmp_path, monkeypatch):
    first, second = Store(tmp_path), Store(tmp_path)
    assert first.claim("k") and not second.claim("k") and first.claim("k")
    monkeypatch.setattr(module, "_born", lambda pid: "another process of the same number")
    assert second.claim("k")


def test_claims_of_another_host_are_judged_by_its_beat_and_our_clock(tmp_path, monkeypatch):
    first, second = Store(tmp_path), Store(tmp_path)
    with monkeypatch.context() as other:
        other.setattr("socket.gethostname", lambda: "elsewhere")
        assert first.claim("k")
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    assert not second.claim("k")
    clock[0] = 50.0
    first.beat()
    assert not second.claim("k")  # it moved
    clock[0] = 100.0
    assert not second.claim("k")  # 50 s since it was seen to move
    clock[0] = 111.0
    assert second.claim("k")


def test_a_runner_beats_while_a_cell_takes_long_and_gives_back_what_it_had(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BEAT", 0.05)
    store = Store(tmp_path)
    with store.running():
        assert store.claim("k")
        time.sleep(0.4)
        (beats,) = store.db.execute("SELECT beat FROM runners").fetchone()
        assert beats >= 2
    assert store.db.execute("SELECT COUNT(*) FROM runners").fetchone() == (0,) and Store(tmp_path).claim("k")


def test_what_was_not_finished_is_given_back(tmp_path):
    first, second = Store(tmp_path), Store(tmp_path)
    assert first.claim("k")
    first.release()
    assert second.claim("k")


def test_two_runners_on_one_store_share_the_work(tmp_path):
    made = suite(
        tasks__blur__seeds=tuple(range(6)), methods__TV__tune=None, methods__TV__prior={"name": "tv", "weight": 2.0}
    )
    stores = [Store(tmp_path), Store(tmp_path)]
    plans = [plan(made, s) for s in stores]
    with ThreadPoolExecutor(2) as threads:
        ends = list(threads.map(run, plans, stores))
    assert [e.finished for e in ends] == [24, 24] and sum(e.reused for e in ends) == 24
    assert len([r for r in stores[0].rows() if r["kind"] == "cell"]) == 24


def test_arrays_are_kept_by_content_and_a_change_is_noticed(tmp_path):
    store = Store(tmp_path)
    a = np.arange(6.0).reshape(2, 3)
    name = store.put(a)
    assert store.put(a.copy()) == name and store.put(a.reshape(3, 2)) != name
    assert np.array_equal(store.get(name), a)
    np.save(store.file(name), a + 1)
    with pytest.raises(DataError, match="has changed since it was written"):
        store.get(name)
    store.file(name).write_bytes(b"junk")
    with pytest.raises(DataError, match="missing or damaged"):
        store.get(name)
    assert not list(store.folder.rglob("*.part"))


def test_an_old_store_is_brought_up_to_date_and_a_newer_one_refused(tmp_path):
    db = sqlite3.connect(tmp_path / "store.sqlite")
    script = module.SCHEMA.replace(" seed INTEGER NOT NULL,", "").replace(
        ", told TEXT NOT NULL,\n  environment", ", told TEXT NOT NULL,\n  environment"
    )
    db.executescript(script)
    db.execute("INSERT INTO meta VALUES ('version', '1')")
    db.execute(
        "INSERT INTO cells (key, suite, kind, data, task, method, image, status, told, environment, written) "
        "VALUES ('k', 's', 'cell', 'd', 't', 'm', 0, 'done', '{\"seed\": 7}', 'e', 1.0)"
    )
    db.commit()
    db.close()
    (row,) = Store(tmp_path).rows()
    assert row["key"] == "k" and row["seed"] == 7
    again = sqlite3.connect(tmp_path / "store.sqlite")
    again.execute("UPDATE meta SET value = '99' WHERE name = 'version'")
    again.commit()
    with pytest.raises(StoreError, match="written by a newer pnpkit"):
        Store(tmp_path)


def test_damage_is_told_and_the_rest_saved(tmp_path):
    store = Store(tmp_path / "a")
    for i in range(300):
        store.write(f"k{i}", PLACE | {"image": i}, "done", {"metrics": {"psnr": float(i)}, "pad": "x" * 400}, "e")
    store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert store.check() is None
    store.db.close()
    path = tmp_path / "a" / "store.sqlite"
    content = bytearray(path.read_bytes())
    for start in range(len(content) // 2, len(content) // 2 + 12 * 4096):
        content[start] = 0xA5
    path.write_bytes(bytes(content))
    problem = None
    try:
        problem = Store(tmp_path / "a").check()
    except StoreError as error:
        problem = str(error)
    assert problem
    kept, lost = salvage(tmp_path / "a", tmp_path / "b")
    assert 30 < kept < 300 and lost > 0
    saved = Store(tmp_path / "b")
    assert saved.check() is None and len(saved.rows()) == kept
    path.write_bytes(b"this is no database at all, just text" * 100)
    with pytest.raises(StoreError, match="store salvage"):
        Store(tmp_path / "a")


def test_a_full_disk_stops_with_a_sentence_and_a_whole_store(tmp_path):
    store = Store(tmp_path)
    store.write("first", PLACE, "done", {}, "e")
    pages = store.db.execute("PRAGMA page_count").fetchone()[0]
    store.db.execute(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(StoreError, match="disk is full"):
        for i in range(100):
            store.write(f"k{i}", PLACE | {"image": i}, "done", {"pad": "x" * 2000}, "e")
    again = Store(tmp_path)
    assert again.check() is None and again.done("first") is not None


def test_failed_cells_can_be_forgotten_and_finished_ones_not(tmp_path):
    store = Store(tmp_path)
    store.write("good", PLACE, "done", {}, "e")
    store.write("bad", PLACE | {"image": 1}, "failed", {"reason": "no"}, "e")
    store.forget("good")
    store.forget("bad")
    assert [r["key"] for r in store.rows()] == ["good"]


def test_half_written_arrays_of_the_dead_are_removed_those_of_the_living_are_not(tmp_path):
    living = Store(tmp_path)
    living.put(np.zeros(3))
    place = living.file(living.put(np.ones(3)))
    left = [place.with_name(f"{place.stem}.{runner}.part") for runner in ("0123456789abcdef", living.runner)]
    for part in left:
        part.write_bytes(b"half")
    Store(tmp_path).put(np.full(3, 2.0))
    assert [part.is_file() for part in left] == [False, True]
    assert living.get(place.stem).tolist() == [1, 1, 1]


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.full)])
def test_kill_9_loses_nothing_and_repeats_nothing(tmp_path, kills):
    """Killed at random moments, the same command ends with every cell once, and never changes one that was there."""
    path = written(tmp_path)
    overrides = ["tasks.blur.seeds=[0,1,2,3,4,5,6,7,8,9]", "methods.TV.solver.n_steps=40"]
    command = [
        sys.executable,
        "-m",
        "pnpkit",
        "bench",
        str(path),
        "--store",
        str(tmp_path / "store"),
        "--executor",
        "inline",
    ]
    command += [a for o in overrides for a in ("--set", o)]
    rng = np.random.default_rng(kills)
    seen: dict[str, float] = {}
    for _ in range(kills):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(float(rng.uniform(2.0, 7.0)))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if (tmp_path / "store" / "store.sqlite").is_file():
            rows = {r["key"]: r["written"] for r in Store(tmp_path / "store").rows()}
            assert seen.items() <= rows.items()
            seen = rows
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = Store(tmp_path / "store").rows()
    cells = [r for r in rows if r["kind"] == "cell"]
    assert len(cells) == 40 == len({(r["method"], r["image"], r["seed"]) for r in cells})
    assert seen.items() <= {r["key"]: r["written"] for r in rows}.items()
    assert not list(Path(tmp_path / "store").rglob("*.part"))
