"""What the page says, as numbers: computed from the store, shown elsewhere."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pnpkit.bench.statistics import Difference, Interval, difference, mean_interval, sign
from pnpkit.bench.store import Store, latest
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

    @property
    def first(self) -> bool:
        """Whether nothing is clearly better."""
        return self.rank.split("–")[0] == "1"

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
    methods: list[str]
    ranges: dict[str, float]  # of the images of a data set, peak to peak

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
    rows = latest([r for r in rows if r["suite"] == name])
    if not rows:
        raise DataError(f"{store.folder} holds nothing of {name}; it has {', '.join(store.suites())}.")
    kinds = {kind: [r for r in rows if r["kind"] == kind] for kind in ("cell", "skip", "search", "suite")}
    cells = kinds["cell"]
    if not cells:
        raise DataError(f"{store.folder} has no finished cell of {name}.")
    spec = kinds["suite"][0]["spec"]
    metrics = list(dict.fromkeys(m for r in cells if r["status"] == "done" for m in r["metrics"]))
    methods = sorted(
        dict.fromkeys(r["method"] for r in cells), key=[*spec["methods"], *(r["method"] for r in cells)].index
    )
    baseline = spec["baseline"] if spec["baseline"] in methods else methods[0]
    entries = list(_entries(cells, metrics, methods, baseline))
    run = {(e.data, e.task, e.method) for e in entries}
    made = Digest(
        name, metrics, baseline, entries,
        [s for s in kinds["skip"] if (s["data"], s["task"], s["method"]) not in run],
        [r for r in cells if r["status"] == "failed"], kinds["search"], store.environments(), methods,
        {k: v["data_range"] for k, v in spec["data"].items()},
    )  # fmt: skip
    for place in made.places:
        _rank(made.of(place), metrics[0])
    return made


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
        m: difference([a["metrics"][m] for a, _ in both], [b["metrics"][m] for _, b in both], metric=m) for m in metrics
    }


def pair(a: Entry, b: Entry, metric: str) -> Difference | None:
    """a − b on the measurements that both have."""
    other = {(r["image"], r["seed"]): r["metrics"][metric] for r in b.cells}
    both = [(r["metrics"][metric], other[r["image"], r["seed"]]) for r in a.cells if (r["image"], r["seed"]) in other]
    return difference([v for v, _ in both], [v for _, v in both], metric=metric) if both else None


def _rank(entries: list[Entry], metric: str) -> None:
    """Places by the mean; methods whose paired difference has an interval around zero share a place."""
    ordered = sorted(entries, key=lambda e: -sign(metric) * e.metrics[metric].mean)
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
