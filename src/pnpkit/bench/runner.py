"""Runs what of a suite is not in the store yet: searches first, cells as soon as their settings are known."""

import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pnpkit.bench.environment import environment
from pnpkit.bench.executors import Executor, Lost, Work
from pnpkit.bench.job import Answer
from pnpkit.bench.keys import digest
from pnpkit.bench.plan import Cell, Plan, Search, Skipped, with_settings
from pnpkit.bench.statistics import sign
from pnpkit.bench.store import Store

TRIES = 2  # of work whose worker died
POLL = 0.2  # seconds


@dataclass
class Progress:
    """What a live view shows: cells; running, lost : of the executor; searches : settings still being chosen."""

    total: int
    executor: str = ""
    running: int = 0
    lost: int = 0
    searches: int = 0
    finished: int = 0
    failed: int = 0
    reused: int = 0
    best: dict[tuple[str, str], tuple[str, float]] = field(default_factory=dict)


Watch = Callable[[Progress], None]


class Runner:
    """One pass over a plan. Cells that another living runner has claimed are left to it and waited for."""

    def __init__(self, plan: Plan, store: Store, executor: Executor, watch: Watch | None = None):
        self.plan, self.store, self.executor, self.watch = plan, store, executor, watch
        self.environment = store.environment(environment(plan.suite.threads))
        self.settings: dict[str, dict[str, Any]] = {}  # of finished searches
        self.tries: dict[str, int] = {}
        self.progress = Progress(len(plan.cells), type(executor).__name__.lower())
        self.waiting: deque[Cell] = deque()

    def run(self) -> Progress:
        """Everything that is missing; the store is whole whenever this is interrupted."""
        with self.store.running():
            self._note_suite()
            self._note_skipped()
            self._search()
            self.waiting = deque(c for c in self.plan.cells if not self._known(c))
            self._drain()
        return self.progress

    # --- cells ---

    def _known(self, cell: Cell) -> bool:
        done = self.store.done(cell.key)
        if done is not None:
            self.progress.reused += 1
            self._count(cell, done)
        return done is not None

    def _drain(self) -> None:
        elsewhere: list[Cell] = []
        while self.waiting or self.executor.busy or elsewhere:
            while self.waiting and self.executor.room:
                cell = self.waiting.popleft()
                if self.store.claim(cell.key):
                    self.executor.submit(self._work(cell))
                elif not self._known(cell):
                    elsewhere.append(cell)
            self._tell()
            if self.executor.busy:
                for work, answer in self.executor.results():
                    self._finish(work, answer)
            elif elsewhere:
                time.sleep(POLL)
            if not self.waiting and not self.executor.busy and elsewhere:
                self.waiting, elsewhere = deque(c for c in elsewhere if not self._known(c)), []
        self._tell()

    def _work(self, cell: Cell) -> Work:
        job = cell.job if cell.group is None else with_settings(cell.job, self.settings[cell.group])
        return Work(cell, (job,), timeout=self.plan.suite.timeout * job.repeats)

    def _finish(self, work: Work, answer: Answer | Lost) -> None:
        cell: Cell = work.tag
        if isinstance(answer, Lost):
            self.progress.lost += 1
            self.tries[cell.key] = self.tries.get(cell.key, 1) + 1
            if answer.again and self.tries[cell.key] <= TRIES:
                self.executor.submit(work)
                return
            answer = Answer("failed", {"reason": f"The cell {answer.reason}.", "traceback": ""})
        told = dict(answer.told)
        if cell.group is not None:
            told["settings"] = self.settings[cell.group]
        told |= {"spec": spec_of(work), "truth": Path(str(cell.job.x)).stem, "y": Path(str(cell.job.y)).stem}
        if answer.image is not None:
            told["image_name"] = self.store.put(np.asarray(answer.image))
        if answer.spread is not None:
            told["spread"] = self.store.put(np.asarray(answer.spread))
        self.store.write(cell.key, self._place("cell", cell), answer.status, told, self.environment)
        self._count(cell, {"status": answer.status, **told})

    def _count(self, cell: Cell, told: dict[str, Any]) -> None:
        self.progress.finished += 1
        if told["status"] != "done":
            self.progress.failed += 1
            return
        metric, place = self.plan.suite.metrics[0], (cell.data, cell.task)
        value = told["metrics"][metric]
        if place not in self.progress.best or sign(metric) * (value - self.progress.best[place][1]) > 0:
            self.progress.best[place] = (cell.method, value)

    # --- searches ---

    def _search(self) -> None:
        """Every search that is not in the store, all side by side; settings come from the validation images alone."""
        active: dict[str, Chooser] = {}
        for search in self.plan.searches.values():
            if (done := self.store.done(search.key)) is not None:
                self.settings[search.key] = done["settings"]
                continue
            method = self.plan.suite.methods[search.method]
            assert method.tune is not None
            optuna = method.tune.by == "optuna"
            active[search.key] = _Optuna(search, method.tune) if optuna else _Grid(search)
        while active:
            for key, chooser in active.items():
                while self.executor.room and (settings := chooser.ask()) is not None:
                    jobs = tuple(with_settings(j, settings) for j in chooser.search.jobs)
                    metric = self._metric(chooser.search)
                    limit = self.plan.suite.timeout * len(jobs)
                    self.executor.submit(Work((key, settings), jobs, metric, limit))
            self._tell(len(active))
            for work, answer in self.executor.results():
                key, settings = work.tag
                self.progress.lost += isinstance(answer, Lost)
                score, reason = (-np.inf, answer.reason) if isinstance(answer, Lost) else answer
                active[key].tell(settings, score, reason)
            for key in [k for k, c in active.items() if c.ended]:
                self._choose(active.pop(key))

    def _metric(self, search: Search) -> str:
        tune = self.plan.suite.methods[search.method].tune
        assert tune is not None
        return tune.metric

    def _choose(self, chooser: "Chooser") -> None:
        search, tried = chooser.search, chooser.tried
        direction = sign(self._metric(search))
        good = [t for t in tried if np.isfinite(t[1])]
        settings = max(good, key=lambda t: direction * t[1])[0] if good else tried[0][0]
        self.settings[search.key] = settings
        edges = [n for n in settings if at_edge(n, settings[n], search)]
        told = {
            "settings": settings, "tried": [[s, v if np.isfinite(v) else None, r] for s, v, r in tried],
            "metric": self._metric(search), "at_edge": edges, "images": len(search.jobs),
        }  # fmt: skip
        self.store.write(search.key, self._place("search", search), "done", told, self.environment)

    # --- the rest ---

    def _note_suite(self) -> None:
        """The suite itself, so that a report knows its baseline and its conventions."""
        told = json.loads(self.plan.suite.model_dump_json())
        self.store.write(digest(["suite", told]), self._place("suite"), "done", {"spec": told}, self.environment)

    def _note_skipped(self) -> None:
        for s in self.plan.skipped:
            place = self._place("skip", s)
            self.store.write(digest([place, s.reason]), place, "skipped", {"reason": s.reason}, self.environment)

    def _place(self, kind: str, of: Cell | Search | Skipped | None = None) -> dict[str, Any]:
        """Where a row of the store belongs."""
        names = {"data": "", "task": "", "method": "", "image": -1, "seed": 0}
        return {"suite": self.plan.suite.name, "kind": kind} | {n: getattr(of, n, v) for n, v in names.items()}

    def _tell(self, searches: int = 0) -> None:
        self.progress.running, self.progress.searches = self.executor.busy, searches
        if self.watch is not None:
            self.watch(self.progress)


class Chooser:
    """Settings to try, and what came of them."""

    def __init__(self, search: Search):
        self.search = search
        self.tried: list[tuple[dict[str, Any], float, str]] = []

    def ask(self) -> dict[str, Any] | None:
        """The next settings, or None: nothing now."""
        raise NotImplementedError

    def tell(self, settings: dict[str, Any], score: float, reason: str) -> None:
        self.tried.append((settings, score, reason))

    @property
    def ended(self) -> bool:
        raise NotImplementedError


class _Grid(Chooser):
    """All settings in order."""

    def __init__(self, search: Search):
        super().__init__(search)
        self.left: Iterator[dict[str, Any]] = iter(search.settings)

    def ask(self) -> dict[str, Any] | None:
        return next(self.left, None)

    @property
    def ended(self) -> bool:
        return len(self.tried) == len(self.search.settings)


class _Optuna(Chooser):
    """Optuna's TPE over the listed values, one by one, with a fixed seed; what was tried before is not run again."""

    def __init__(self, search: Search, tune: Any):
        import optuna

        super().__init__(search)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        direction = "minimize" if sign(tune.metric) < 0 else "maximize"
        self.study = optuna.create_study(direction=direction, sampler=optuna.samplers.TPESampler(seed=0))
        self.space, self.budget, self.trial = tune.search, tune.budget, None
        self.known: dict[str, float] = {}

    def ask(self) -> dict[str, Any] | None:
        while self.trial is None and not self.ended:
            self.trial = self.study.ask()
            settings = {
                n: self.trial.suggest_categorical(n, [str(i) for i in range(len(v))]) for n, v in self.space.items()
            }
            chosen = {n: self.space[n][int(i)] for n, i in settings.items()}
            if str(chosen) not in self.known:
                return chosen
            self.study.tell(self.trial, self.known[str(chosen)])
            self.trial = None
        return None

    def tell(self, settings: dict[str, Any], score: float, reason: str) -> None:
        super().tell(settings, score, reason)
        worst = 1e30 if self.study.direction.name == "MINIMIZE" else -1e30
        self.known[str(settings)] = score if np.isfinite(score) else worst
        assert self.trial is not None
        self.study.tell(self.trial, self.known[str(settings)])
        self.trial = None

    @property
    def ended(self) -> bool:
        whole = int(np.prod([len(v) for v in self.space.values()]))
        return self.trial is None and (len(self.study.trials) >= self.budget or len(self.known) >= whole)


def at_edge(name: str, value: Any, search: Search) -> bool:
    """Whether a chosen number is the smallest or the largest that was offered, of three or more: look farther."""
    offered = sorted({s[name] for s in search.settings if isinstance(s[name], int | float)})
    return len(offered) > 2 and value in (offered[0], offered[-1])


def spec_of(work: Work) -> dict[str, Any]:
    """What rebuilds the cell by hand."""
    (job,) = work.jobs
    names = ("operator", "noise", "prior", "solver", "scale", "chains", "command", "call", "settings")
    told = {n: getattr(job, n) for n in (*names, "seed", "threads")}
    return {n: v for n, v in told.items() if v is not None}
