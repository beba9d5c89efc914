"""What the page says, as numbers: computed from the store, shown elsewhere."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pnpkit.bench.runner import LOWER_IS_BETTER
from pnpkit.bench.statistics import Difference, Interval, difference, mean_interval
from pnpkit.bench.store import Store
from pnpkit.errors import DataError

Row = dict[str, Any]
Place = tuple[str, str]  # data set, task


@dataclass
class Entry:
    """One method on one task."""

    data: str
    task: str
    method: str
    cells: list[Row]
    failed: list[Row]
    metrics: dict[str, Interval]
    against: dict[str, Difference]  # the baseline
    seconds: float
    memory: float | None
    calls: dict[str, float]
    rank: str = ""

    @property
    def place(self) -> Place:
        return self.data, self.task

    def value(self, metric: str) -> list[float]:
        """The values of all images, in their order."""
        return [c["metrics"][metric] for c in self.cells]


@dataclass
class Digest:
    """Everything of one suite."""

    suite: str
    metrics: list[str]
    baseline: str
    entries: list[Entry]
    skipped: list[Row]
    failed: list[Row]
    searches: list[Row]
    environments: dict[str, dict[str, Any]]
    methods: list[str] = field(default_factory=list)

    @property
    def places(self) -> list[Place]:
        return list(dict.fromkeys(e.place for e in self.entries))

    def of(self, place: Place) -> list[Entry]:
        return [e for e in self.entries if e.place == place and e.cells]


def digest(store: Store, suite: str | None = None) -> Digest:
    """The cells of a suite (the last one written when None), of the last code and settings where there are several."""
    rows = store.rows()
    if not rows:
        raise DataError(f"{store.folder} holds no results yet; run `pnpkit bench SUITE --store {store.folder}`.")
    name: str = suite or rows[-1]["suite"]
    rows = [r for r in rows if r["suite"] == name]
    if not rows:
        raise DataError(f"{store.folder} holds nothing of {name}; it has {', '.join(store.suites())}.")
    cells = _latest([r for r in rows if r["kind"] == "cell"])
    if not cells:
        raise DataError(f"{store.folder} has no finished cell of {name}.")
    done = [r for r in cells if r["status"] == "done"]
    metrics = list(dict.fromkeys(m for r in done for m in r["metrics"]))
    methods = list(dict.fromkeys(r["method"] for r in cells))
    specs = [r["spec"] for r in rows if r["kind"] == "suite"]
    wanted = specs[-1]["baseline"] if specs else None
    methods.sort(key=lambda m: list(specs[-1]["methods"]).index(m) if specs and m in specs[-1]["methods"] else 10**6)
    chosen = str(wanted if wanted in methods else methods[0])
    entries = list(_entries(cells, metrics, methods, chosen))
    failed = [r for r in cells if r["status"] == "failed"]
    made = Digest(
        name, metrics, chosen, entries, _latest([r for r in rows if r["kind"] == "skip"]), failed,
        _latest([r for r in rows if r["kind"] == "search"]), store.environments(), methods,
    )  # fmt: skip
    for place in made.places:
        _rank(made.of(place), metrics[0])
    return made


def _latest(rows: list[Row]) -> list[Row]:
    """One row a place: that written last."""
    names = ("data", "task", "method", "image", "seed")
    return list({tuple(r[n] for n in names): r for r in rows}.values())


def _entries(cells: list[Row], metrics: list[str], methods: list[str], baseline: str) -> Iterator[Entry]:
    grouped: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in cells:
        grouped[row["data"], row["task"], row["method"]].append(row)
    for (data, task, method), rows in sorted(grouped.items(), key=lambda g: methods.index(g[0][2])):
        rows.sort(key=lambda r: (r["image"], r["seed"]))
        good = [r for r in rows if r["status"] == "done"]
        base = {(r["image"], r["seed"]): r for r in grouped.get((data, task, baseline), []) if r["status"] == "done"}
        yield Entry(
            data, task, method, good, [r for r in rows if r["status"] == "failed"],
            {m: mean_interval([r["metrics"][m] for r in good]) for m in metrics} if good else {},
            _against(good, base, metrics),
            _median([r["seconds"] for r in good]),
            max((r["memory_mib"] for r in good if r["memory_mib"] is not None), default=None),
            _mean_calls(good),
        )  # fmt: skip


def _against(rows: list[Row], base: Mapping[tuple[int, int], Row], metrics: list[str]) -> dict[str, Difference]:
    both = [(r, base[r["image"], r["seed"]]) for r in rows if (r["image"], r["seed"]) in base]
    if not both:
        return {}
    return {
        m: difference([a["metrics"][m] for a, _ in both], [b["metrics"][m] for _, b in both], better=better(m))
        for m in metrics
    }


def better(metric: str) -> str:
    """Which way is better."""
    return "lower" if metric in LOWER_IS_BETTER else "higher"


def pair(a: Entry, b: Entry, metric: str) -> Difference | None:
    """a − b on the measurements that both have."""
    other = {(r["image"], r["seed"]): r["metrics"][metric] for r in b.cells}
    both = [(r["metrics"][metric], other[r["image"], r["seed"]]) for r in a.cells if (r["image"], r["seed"]) in other]
    return difference([v for v, _ in both], [v for _, v in both], better=better(metric)) if both else None


def _rank(entries: list[Entry], metric: str) -> None:
    """Places by the mean; methods whose paired difference has an interval around zero share a place."""
    sign = -1 if better(metric) == "lower" else 1
    ordered = sorted(entries, key=lambda e: -sign * e.metrics[metric].mean)
    first = 0
    groups: list[list[Entry]] = []
    for entry in ordered:
        gap = pair(groups[-1][0], entry, metric) if groups else None
        if groups and (gap is None or not gap.clear):
            groups[-1].append(entry)
        else:
            groups.append([entry])
    for group in groups:
        last = first + len(group)
        for entry in group:
            entry.rank = f"{first + 1}" if len(group) == 1 else f"{first + 1}–{last}"
        first = last


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2] if values else float("nan")


def _mean_calls(rows: list[Row]) -> dict[str, float]:
    names = dict.fromkeys(n for r in rows for n in r["calls"])
    return {n: sum(r["calls"].get(n, 0) for r in rows) / len(rows) for n in names}
