"""What is said of figures: intervals that cover, tests that agree with scipy's, ranks that do not overclaim."""

import numpy as np
import pytest
from scipy import stats

from pnpkit.bench.publish import export, regressions, summary, tidy
from pnpkit.bench.report.digest import digest
from pnpkit.bench.statistics import difference, mean_interval
from pnpkit.bench.store import Store
from pnpkit.errors import DataError, SpecError

from .toys import run, suite


def test_the_interval_agrees_with_scipys_bootstrap():
    x = np.random.default_rng(0).exponential(size=40)
    ours = mean_interval(x.tolist())
    theirs = stats.bootstrap((x,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(1))
    assert ours.mean == pytest.approx(x.mean())
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.02)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.02)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    inside = [i.low <= 0 <= i.high for i in (mean_interval(rng.normal(size=30).tolist()) for _ in range(400))]
    assert 0.90 <= np.mean(inside) <= 0.98


def test_exact_values():
    one = mean_interval([2.0])
    assert (one.mean, one.low, one.high, one.n) == (2.0, 2.0, 2.0, 1)
    gap = difference([3.0, 2.0, 5.0, 1.0], [1.0, 2.0, 3.0, 2.0])
    assert (gap.interval.mean, gap.wins, gap.losses) == (0.75, 2, 1)
    assert gap.p == pytest.approx(stats.binomtest(2, 3).pvalue)
    lower = difference([1.0, 1.0], [2.0, 2.0], metric="nmse")
    assert (lower.wins, lower.losses) == (2, 0) and lower.clear
    assert not difference([1.0, 2.0], [2.0, 1.0]).clear and difference([1.0], [1.0]).p == 1.0


@pytest.mark.parametrize("bad", [[], [float("nan")], [1.0, float("inf")]])
def test_what_is_no_number_is_refused(bad):
    with pytest.raises(SpecError, match="finite numbers"):
        mean_interval(bad)
    with pytest.raises(SpecError, match="as many"):
        difference([1.0], [1.0, 2.0])


def with_values(tmp_path, **values: list[float]) -> Store:
    """A store with one task and these PSNRs of each method's images."""
    store = Store(tmp_path / "store")
    spec = {"methods": {m: {} for m in values}, "baseline": None, "data": {"d": {"data_range": 1.0}}}
    about = {"suite": "s", "kind": "suite", "data": "", "task": "", "method": "", "image": -1, "seed": 0}
    store.write("suite", about, "done", {"spec": spec}, "e")
    for method, row in values.items():
        for image, value in enumerate(row):
            place = {
                "suite": "s",
                "kind": "cell",
                "data": "d",
                "task": "t",
                "method": method,
                "image": image,
                "seed": 0,
            }
            told = {"metrics": {"psnr": value}, "seconds": 0.1, "memory_mib": 1.0, "calls": {"prior": 8}, "steps": 1}
            store.write(f"{method}{image}", place, "done", told, "e")
    return store


def test_methods_that_cannot_be_told_apart_share_a_place(tmp_path):
    rng = np.random.default_rng(0)
    base = rng.normal(30, 3, 20)
    a, b = base + rng.normal(0, 0.3, 20), base + rng.normal(0, 0.3, 20)
    store = with_values(tmp_path, best=(base + 2).tolist(), a=a.tolist(), b=b.tolist(), worst=(base - 1).tolist())
    ranks = {e.method: e.rank for e in digest(store).entries}
    assert ranks == {"best": "1", "a": "2–3", "b": "2–3", "worst": "4"}


def test_a_drop_in_quality_or_speed_is_told_and_noise_is_not(tmp_path):
    before = summary(with_values(tmp_path / "a", x=[30.0, 31.0, 32.0], y=[25.0, 26.0, 27.0]), "s")
    assert regressions(before, before, "psnr") == []
    worse = summary(with_values(tmp_path / "b", x=[29.5, 30.5, 31.4], y=[25.3, 25.8, 27.0]), "s")
    (told,) = regressions(worse, before, "psnr")
    assert told.startswith("d | t | x: psnr changed by -0.533")
    slow = {**before, "results": {k: dict(v) for k, v in before["results"].items()}}
    slow["results"]["d | t | y"]["seconds"] = 1.0
    (told,) = regressions(slow, before, "psnr")
    assert "takes 10.00 times as long" in told
    assert len(regressions(before, slow, "psnr")) == 0  # y got faster, x as it was
    del slow["results"]["d | t | y"]
    assert "it was there before" in regressions(slow, before, "psnr")[0]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_exports(tmp_path, suffix):
    import csv
    import json

    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    store, out = Store(tmp_path / "store"), tmp_path / f"rows.{suffix}"
    run(suite(), store)
    assert export(store, out) == 4
    if suffix == "jsonl":
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    elif suffix == "csv":
        rows = list(csv.DictReader(out.open()))
    else:
        from pyarrow import parquet

        rows = parquet.read_table(out).to_pylist()
    assert [r["method"] for r in rows] == [r["method"] for r in tidy(store)]
    assert float(rows[0]["psnr"]) == pytest.approx(tidy(store)[0]["psnr"]) and rows[0]["settings"] in (
        "{}",
        '{"prior.weight": 5.0}',
    )
    with pytest.raises(SpecError, match=r"write \.jsonl, \.csv or \.parquet"):
        export(store, tmp_path / "rows.txt")
    with pytest.raises(DataError, match="holds no cells of other: toy"):
        export(store, out, "other")
