"""Where results are kept: one SQLite file, a row a cell, never changed once written; arrays beside it by content."""

import contextlib
import hashlib
import json
import os
import shutil
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pnpkit.bench.arrays import content, read
from pnpkit.errors import PnpkitError

VERSION = 2
BEAT = 5.0  # seconds
STALE = 60.0  # seconds without a heartbeat, by the observer's own clock, after which a runner on another host is dead
SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE environments (id TEXT PRIMARY KEY, told TEXT NOT NULL);
CREATE TABLE cells (
  key TEXT PRIMARY KEY, suite TEXT NOT NULL, kind TEXT NOT NULL, data TEXT NOT NULL, task TEXT NOT NULL,
  method TEXT NOT NULL, image INTEGER NOT NULL, seed INTEGER NOT NULL, status TEXT NOT NULL, told TEXT NOT NULL,
  environment TEXT NOT NULL, written REAL NOT NULL
);
CREATE INDEX by_suite ON cells (suite, kind, data, task, method);
CREATE TABLE claims (key TEXT PRIMARY KEY, runner TEXT NOT NULL);
CREATE TABLE runners (id TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL, born TEXT NOT NULL,
  beat INTEGER NOT NULL);
"""


class StoreError(PnpkitError):
    """The store cannot be used: full disk, damaged file, newer version."""

    exit_code = 5


class Store:
    """Results of cells, by key. Any number of runners may use one store at once; no cell is run twice.

    WAL with ``synchronous=NORMAL``: what was written survives ``kill -9`` of any process at any moment; at a power loss
    or a crash of the system the last cells may be lost, the file stays whole.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.path = self.folder / "store.sqlite"
        self.runner = uuid.uuid4().hex
        self._seen: dict[str, tuple[int, float]] = {}  # runner -> (its beat, when it was first seen by our clock)
        self._registered = False
        with self._told():
            self.folder.mkdir(parents=True, exist_ok=True)
            self.db = sqlite3.connect(self.path, timeout=60, isolation_level=None, check_same_thread=False)
            self.db.execute("PRAGMA journal_mode=WAL")
            self.db.execute("PRAGMA synchronous=NORMAL")
            self._migrate()

    # --- opening ---

    def _migrate(self) -> None:
        with self.transaction():
            tables = {r[0] for r in self.db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if "meta" not in tables:
                for statement in filter(str.strip, SCHEMA.split(";")):
                    self.db.execute(statement)
                self.db.execute("INSERT INTO meta VALUES ('version', ?)", (str(VERSION),))
                return
            version = int(self.db.execute("SELECT value FROM meta WHERE name = 'version'").fetchone()[0])
            if version > VERSION:
                raise StoreError(
                    f"{self.path} was written by a newer pnpkit (store {version}, this one knows {VERSION})."
                )
            for step in range(version, VERSION):
                MIGRATIONS[step](self.db)
            self.db.execute("UPDATE meta SET value = ? WHERE name = 'version'", (str(VERSION),))

    def check(self) -> str | None:
        """What is wrong with the file, or None."""
        try:
            found = self.db.execute("PRAGMA quick_check").fetchall()
        except sqlite3.DatabaseError as error:
            return str(error)
        return None if found == [("ok",)] else "; ".join(str(r[0]) for r in found[:3])

    @contextmanager
    def _told(self) -> Iterator[None]:
        """SQLite's errors as ours, with what to do."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            text = str(error)
            if "full" in text or "disk I/O" in text:
                raise StoreError(
                    f"{self.folder}: the disk is full or cannot be written ({text}). What was finished is kept; make "
                    "room and run the same command again."
                ) from error
            raise StoreError(
                f"{self.path} is damaged ({text}). `pnpkit store salvage {self.folder} NEW_FOLDER` copies what can be "
                "read; cells that are lost are run again."
            ) from error
        except OSError as error:
            raise StoreError(f"{self.folder}: {error}. What was finished is kept.") from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; waits for other writers."""
        with self._told():
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if self.db.in_transaction:  # SQLite ends it by itself when the disk is full
                    self.db.execute("ROLLBACK")
                raise
            self.db.execute("COMMIT")

    # --- cells ---

    def done(self, key: str) -> dict[str, Any] | None:
        """What is known of a finished cell."""
        with self._told():
            row = self.db.execute("SELECT status, told FROM cells WHERE key = ?", (key,)).fetchone()
        return None if row is None else {"status": row[0], **json.loads(row[1])}

    def claim(self, key: str) -> bool:
        """Take a cell on; False when it is finished or a living runner has it."""
        self._register()
        with self.transaction():
            if self.db.execute("SELECT 1 FROM cells WHERE key = ?", (key,)).fetchone():
                return False
            row = self.db.execute("SELECT runner FROM claims WHERE key = ?", (key,)).fetchone()
            if row is not None and row[0] != self.runner and self._alive(row[0]):
                return False
            self.db.execute("INSERT OR REPLACE INTO claims VALUES (?, ?)", (key, self.runner))
        return True

    def write(self, key: str, place: Mapping[str, Any], status: str, told: Mapping[str, Any], environment: str) -> bool:
        """Keep the result of a cell; False when it was there already (it is never changed)."""
        text = json.dumps(told, allow_nan=True)
        with self.transaction():
            known = self.db.execute("SELECT 1 FROM cells WHERE key = ?", (key,)).fetchone()
            if known is None:
                columns = (*(place[n] for n in ("suite", "kind", "data", "task", "method", "image", "seed")), status)
                self.db.execute(
                    "INSERT INTO cells VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (key, *columns, text, environment, time.time()),
                )
            self.db.execute("DELETE FROM claims WHERE key = ?", (key,))
        return known is None

    def release(self) -> None:
        """Give back what was claimed and not written."""
        with self.transaction():
            self.db.execute("DELETE FROM claims WHERE runner = ?", (self.runner,))
            self.db.execute("DELETE FROM runners WHERE id = ?", (self.runner,))
        self._registered = False

    def forget(self, key: str) -> None:
        """Remove a cell, so that it is run again: only what failed or was skipped."""
        with self.transaction():
            self.db.execute("DELETE FROM cells WHERE key = ? AND status != 'done'", (key,))

    def rows(self, suite: str | None = None) -> list[dict[str, Any]]:
        """All cells, of one suite or of every one, in the order in which they were written."""
        names = ("key", "suite", "kind", "data", "task", "method", "image", "seed", "status", "told", "environment")
        query = f"SELECT {', '.join(names)}, written FROM cells"
        with self._told():
            found = self.db.execute(
                query + (" WHERE suite = ?" if suite else "") + " ORDER BY rowid", (suite,) if suite else ()
            ).fetchall()
        rows = [dict(zip((*names, "written"), r, strict=True)) for r in found]
        return [{**row, **json.loads(row.pop("told"))} for row in rows]

    def cells(self, suite: str) -> list[dict[str, Any]]:
        """One row for every cell of a suite: of several, from other code or settings, that written last."""
        return latest([r for r in self.rows(suite) if r["kind"] == "cell"])

    def suites(self) -> list[str]:
        with self._told():
            return [r[0] for r in self.db.execute("SELECT DISTINCT suite FROM cells ORDER BY suite")]

    # --- who is alive ---

    def _register(self) -> None:
        if not self._registered:
            with self.transaction():
                me = (self.runner, socket.gethostname(), os.getpid(), _born(os.getpid()), 0)
                self.db.execute("INSERT OR REPLACE INTO runners VALUES (?, ?, ?, ?, ?)", me)
            self._registered = True
            for part in (self.folder / "arrays").rglob("*.part"):  # of runners that were killed as they wrote
                if not self._alive(part.stem.rpartition(".")[2]):
                    part.unlink(missing_ok=True)

    @contextmanager
    def running(self) -> Iterator[None]:
        """While a runner works it beats, however long a cell takes; at the end its claims are given back."""
        self._register()
        ended = threading.Event()

        def beating() -> None:
            while not ended.wait(BEAT):
                self.beat()

        thread = threading.Thread(target=beating, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.release()

    def beat(self) -> None:
        """Say that this runner is alive: through a connection of its own, as it comes from a thread of its own."""
        with contextlib.closing(sqlite3.connect(self.path, timeout=60)) as db, db:
            db.execute("UPDATE runners SET beat = beat + 1 WHERE id = ?", (self.runner,))

    def _alive(self, runner: str) -> bool:
        """On this host by its process; on others by whether its beat moves, by our own clock: clocks may differ."""
        row = self.db.execute("SELECT host, pid, born, beat FROM runners WHERE id = ?", (runner,)).fetchone()
        if row is None:
            return False
        host, pid, born, beat = row
        if host == socket.gethostname():
            return _born(pid) == born
        before = self._seen.get(runner)
        if before is None or before[0] != beat:
            self._seen[runner] = (beat, time.monotonic())
            return True
        return time.monotonic() - before[1] < STALE

    # --- environments and arrays ---

    def environment(self, told: Mapping[str, Any]) -> str:
        """Keep a description of the machine and its packages once; its id."""
        text = json.dumps(told, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        with self.transaction():
            self.db.execute("INSERT OR IGNORE INTO environments VALUES (?, ?)", (name, text))
        return name

    def environments(self) -> dict[str, dict[str, Any]]:
        with self._told():
            return {r[0]: json.loads(r[1]) for r in self.db.execute("SELECT id, told FROM environments")}

    def put(self, array: np.ndarray) -> str:
        """Keep an array under the sha256 of its content; the name."""
        name = content(array)
        path = self.file(name)
        if not path.is_file():
            self._register()
            with self._told():
                path.parent.mkdir(parents=True, exist_ok=True)
                part = path.with_name(f"{name}.{self.runner}.part")
                try:
                    with part.open("wb") as file:
                        np.save(file, array)
                        file.flush()
                        os.fsync(file.fileno())
                    part.replace(path)
                finally:
                    part.unlink(missing_ok=True)
        return name

    def file(self, name: str) -> Path:
        """Where ``put`` keeps an array."""
        return self.folder / "arrays" / name[:2] / f"{name}.npy"

    def get(self, name: str) -> np.ndarray:
        """An array of ``put``; DataError when it is missing or not what its name says."""
        return read(self.file(name))

    def close(self) -> None:
        if self._registered:
            self.release()
        self.db.close()


def latest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a place: that written last."""
    names = ("kind", "data", "task", "method", "image", "seed")
    return list({tuple(r[n] for n in names): r for r in rows}.values())


def _born(pid: int) -> str:
    """When a process began, in the system's own ticks; empty when it is gone. Tells a reused number from the first."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state[0] == "Z" else state[19]
    except (OSError, IndexError):
        try:
            os.kill(pid, 0)
        except OSError:
            return ""
        return "alive"


def _to_version_2(db: sqlite3.Connection) -> None:
    """Version 1 had no ``seed`` column: the seed was in ``told``."""
    db.execute("ALTER TABLE cells RENAME TO old")
    statements = SCHEMA.split(";")
    db.execute(next(s for s in statements if "CREATE TABLE cells" in s))
    db.execute(
        "INSERT INTO cells SELECT key, suite, kind, data, task, method, image, "
        "COALESCE(json_extract(told, '$.seed'), 0), status, told, environment, written FROM old"
    )
    db.execute("DROP TABLE old")
    db.execute(next(s for s in statements if "CREATE INDEX by_suite" in s))


MIGRATIONS = {1: _to_version_2}


def salvage(damaged: Path, target: Path) -> tuple[int, int]:
    """Copy the cells of a damaged store that can still be read; (how many were, how many rows could not)."""
    source = sqlite3.connect(f"file:{damaged / 'store.sqlite'}?mode=ro", uri=True)
    new, kept, lost = Store(target), 0, 0
    try:
        last = source.execute("SELECT MAX(rowid) FROM cells").fetchone()[0] or 0
    except sqlite3.DatabaseError as error:
        raise StoreError(f"Nothing can be read of {damaged}: {error}.") from error
    for number in range(1, last + 1):
        try:
            row = source.execute("SELECT * FROM cells WHERE rowid = ?", (number,)).fetchone()
            if row is not None:
                json.loads(row[9])
                with new.transaction():
                    new.db.execute("INSERT OR IGNORE INTO cells VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
                kept += 1
        except (sqlite3.DatabaseError, ValueError):
            lost += 1
    try:
        for name, told in source.execute("SELECT id, told FROM environments"):
            with new.transaction():
                new.db.execute("INSERT OR IGNORE INTO environments VALUES (?, ?)", (name, told))
    except sqlite3.DatabaseError:
        pass
    if (damaged / "arrays").is_dir():
        shutil.copytree(damaged / "arrays", target / "arrays", dirs_exist_ok=True)
    new.close()
    return kept, lost
