"""Results for others: tidy JSON lines, CSV, Parquet; and the check of a run against published ones."""

import csv
import importlib
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from pnpkit.bench.statistics import difference, mean_interval, sign
from pnpkit.bench.store import Store
from pnpkit.errors import DataError, SpecError

SLOWER = 1.5  # a method may take this many times as long as it did, relative to the others


def tidy(store: Store, suite: str | None = None) -> list[dict[str, Any]]:
    """A flat row for every cell: where it belongs, metrics, calls, seconds, memory, settings."""
    rows = []
    for row in store.rows(suite):
        if row["kind"] != "cell":
            continue
        flat = {n: row[n] for n in ("suite", "data", "task", "method", "image", "seed", "status")}
        flat |= row.get("metrics", {}) | {f"calls_{k}": v for k, v in row.get("calls", {}).items()}
        flat |= {n: row.get(n) for n in ("seconds", "memory_mib", "steps", "reason")}
        flat |= {"settings": json.dumps(row.get("settings", {}), sort_keys=True), "key": row["key"]}
        rows.append(flat | {"environment": row["environment"]})
    return rows


def export(store: Store, path: Path, suite: str | None = None) -> int:
    """Write .jsonl, .csv or .parquet; how many rows."""
    rows = tidy(store, suite)
    if not rows:
        raise DataError(
            f"{store.folder} holds no cells{f' of {suite}' if suite else ''}: {', '.join(store.suites()) or 'none'}."
        )
    columns = list(dict.fromkeys(k for r in rows for k in r))
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        try:
            pa: Any = importlib.import_module("pyarrow")
            parquet: Any = importlib.import_module("pyarrow.parquet")
        except ImportError as error:
            raise SpecError("Parquet needs the extra: pip install 'pnpkit[bench]'.") from error
        parquet.write_table(pa.Table.from_pylist([{c: r.get(c) for c in columns} for r in rows]), path)
    else:
        raise SpecError(f"{path}: write .jsonl, .csv or .parquet.")
    return len(rows)


def summary(store: Store, suite: str) -> dict[str, Any]:
    """What is published of a suite and compared with later: per task and method the values of every image."""
    found: dict[str, Any] = defaultdict(lambda: {"images": {}, "seconds": []})
    for row in store.cells(suite):
        if row["status"] == "done":
            cell = found[f"{row['data']} | {row['task']} | {row['method']}"]
            cell["images"][f"{row['image']}/{row['seed']}"] = row["metrics"]
            cell["seconds"].append(row["seconds"])
    for cell in found.values():
        cell["seconds"] = sorted(cell["seconds"])[len(cell["seconds"]) // 2]
    return {"suite": suite, "environments": list(store.environments().values()), "results": dict(found)}


def regressions(now: dict[str, Any], before: dict[str, Any], metric: str) -> list[str]:
    """Sentences about methods that got worse beyond their interval, or slower by more than ``SLOWER``.

    Quality is compared image by image: worse when the whole interval of the mean difference, and more than 0.01 of it,
    is on the bad side. Times are compared relative to the median over all methods where that has risen, as machines
    differ; where it has fallen, as they are: what got faster less than others is not slower.
    """
    found = []
    ratios = {}
    for name, old in before["results"].items():
        new = now["results"].get(name)
        if new is None:
            found.append(f"{name}: it was there before, and is not now.")
            continue
        both = [i for i in old["images"] if i in new["images"]]
        if both:
            a, b = ([r["images"][i][metric] for i in both] for r in (new, old))
            gap = difference(a, b, metric=metric).interval
            worse = gap.low > 0 if sign(metric) < 0 else gap.high < 0
            if worse and abs(gap.mean) > 0.01 * (1 if metric == "psnr" else abs(mean_interval(b).mean)):
                found.append(f"{name}: {metric} changed by {gap.mean:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}].")
        if old["seconds"] > 0.02:  # shorter times are noise
            ratios[name] = new["seconds"] / old["seconds"]
    usual = sorted(ratios.values())[(len(ratios) - 1) // 2] if ratios else 1.0
    for name, ratio in ratios.items():
        if ratio > SLOWER * max(usual, 1.0):
            found.append(f"{name}: takes {ratio:.2f} times as long as before, all methods together {usual:.2f} times.")
    return found
