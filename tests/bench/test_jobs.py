"""Cells that go well and cells that do not: every one leaves an answer, and the others go on."""

import os
import sys
import time

import numpy as np
import pytest

from pnpkit.bench.executors import Inline, Local, Lost, Work
from pnpkit.bench.job import Job, mean_score, run
from pnpkit.bench.plan import plan, with_settings
from pnpkit.bench.store import Store
from pnpkit.errors import SpecError

from .toys import run as run_suite
from .toys import suite

BLUR = {"name": "blur", "kernel": {"make": "gaussian_kernel", "size": 5, "std": 1.0}, "shape": [1, 16, 16]}


def job(**changes) -> Job:
    rng = np.random.default_rng(0)
    x = rng.random((1, 16, 16)).astype(np.float32)
    told = {
        "operator": BLUR, "noise": {"name": "gaussian", "sigma": 0.05}, "x": x, "y": x,
        "prior": {"name": "tv", "weight": 2.0}, "solver": {"name": "pdhg", "n_steps": 5}, "metrics": ("psnr", "nmse"),
    }  # fmt: skip
    return Job(**told | changes)


def program(tmp_path, text: str) -> tuple[str, ...]:
    """A command that runs a Python program with the files as arguments."""
    path = tmp_path / "method.py"
    path.write_text(text)
    return (sys.executable, str(path), "{y}", "{out}", "{operator}", "{noise}")


@pytest.fixture
def pool():
    with Local(workers=2, threads=1, memory=4.0) as made:
        yield made


def finished(executor, *works: Work) -> dict:
    for work in works:
        executor.submit(work)
    found = {}
    while executor.busy:
        found |= {work.tag: answer for work, answer in executor.results()}
    return found


# --- what is measured ---


def test_a_job_says_what_it_cost_and_how_good_it_was():
    answer = run(job(trace=True, repeats=3))
    told = answer.told
    assert answer.status == "done" and answer.image.shape == (1, 16, 16)
    assert told["calls"]["forward"] >= 5 and told["steps"] == 5 and told["seconds"] > 0 and told["memory_mib"] >= 0
    assert 10 < told["metrics"]["psnr"] < 60 and len(told["trace"]) == 5
    assert told["trace"][-1][1] == pytest.approx(told["metrics"]["psnr"], abs=1e-3)


def test_the_same_job_gives_the_same_image():
    assert np.array_equal(run(job()).image, run(job()).image)


def test_samplers_have_a_spread_and_a_calibration():
    answer = run(job(prior="photos_gray", solver={"name": "ddrm", "n_steps": 3}, chains=19))
    assert answer.status == "done"
    assert answer.spread.shape == (1, 16, 16) and [p[0] for p in answer.told["coverage"]] == [
        0.2,
        0.4,
        0.5,
        0.6,
        0.8,
        0.9,
    ]
    assert answer.told["calls"]["prior"] == 3 * 19


# --- what goes wrong ---


def test_a_program_of_another_kind_is_a_method(tmp_path):
    copies = """
import sys, json, numpy as np
assert json.load(open(sys.argv[3]))["name"] == "blur" and json.load(open(sys.argv[4]))["sigma"] == 0.05
np.save(sys.argv[2], np.load(sys.argv[1]))
"""
    good = program(tmp_path, copies)
    answer = run(job(command=good, prior=None, solver=None))
    assert answer.status == "done" and answer.told["metrics"]["nmse"] == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import sys; sys.exit('no licence')", "ended with 1: no licence"),
        ("pass", "did not write {out}"),
        (
            "import sys, numpy as np; np.save(sys.argv[2], np.zeros((1, 8, 8)))",
            r"gave an image \(1, 8, 8\), expected \(1, 16, 16\)",
        ),
        ("import sys, numpy as np; np.save(sys.argv[2], np.full((1, 16, 16), np.nan))", "gave NaN or Inf"),
    ],
)
def test_wrong_programs_fail_with_the_reason(tmp_path, text, reason):
    import re

    answer = run(job(command=program(tmp_path, text), prior=None, solver=None))
    assert answer.status == "failed" and re.search(reason, answer.told["reason"])


def test_a_function_is_a_method_and_its_first_call_is_not_measured(tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text("""
import time
CALLS = []
def method(operator, noise, factor):
    assert operator["name"] == "blur" and noise["sigma"] == 0.05
    def reconstruct(y):
        time.sleep(0.0 if CALLS else 1.0)
        CALLS.append(y)
        return factor * y
    return reconstruct
""")
    monkeypatch.syspath_prepend(str(tmp_path))
    other = {"prior": None, "solver": None, "call": "theirs:method"}
    answer = run(job(**other, settings={"factor": 1.0}, repeats=3))
    assert answer.status == "done" and answer.told["metrics"]["nmse"] == 0 and answer.told["seconds"] < 0.5
    import theirs  # type: ignore[import-not-found]

    assert len(theirs.CALLS) == 4
    assert "unexpected keyword argument 'scale'" in run(job(**other, settings={"scale": 1.0})).told["reason"]
    assert "gave NaN or Inf" in run(job(**other, settings={"factor": float("nan")})).told["reason"]


def test_divergence_and_mistakes_fail_with_a_traceback():
    answer = run(job(solver={"name": "gradient_descent", "step": 1e9, "n_steps": 200}, prior=None))
    assert answer.status == "failed" and answer.told["traceback"]
    answer = run(job(prior={"name": "tv", "weight": -1.0}))
    assert answer.status == "failed" and "weight" in answer.told["reason"]


def test_data_that_are_gone_or_have_changed_fail_with_a_sentence(tmp_path):
    store = Store(tmp_path)
    y = store.file(store.put(np.ones((1, 16, 16), np.float32)))
    assert run(job(y=str(y))).status == "done"
    np.save(y, np.zeros((1, 16, 16), np.float32))
    assert "has changed since it was written" in run(job(y=str(y))).told["reason"]
    y.unlink()
    assert "is missing or damaged" in run(job(y=str(y))).told["reason"]


def test_a_failed_setting_is_worst_and_its_reason_kept():
    assert mean_score([job(), job()], "psnr")[0] == pytest.approx(run(job()).told["metrics"]["psnr"])
    score, reason = mean_score([job(), job(prior={"name": "tv", "weight": -1.0})], "psnr")
    assert score == -np.inf and "weight" in reason


# --- in processes ---


def test_a_method_that_hangs_is_stopped_and_the_others_go_on(pool, tmp_path):
    forever = job(command=program(tmp_path, "import time; time.sleep(600)"), prior=None, solver=None)
    began = time.monotonic()
    found = finished(pool, Work("slow", (forever,), timeout=12.0), Work("good", (job(),)), Work("also", (job(),)))
    assert isinstance(found["slow"], Lost) and "longer than 12 s" in found["slow"].reason and not found["slow"].again
    assert found["good"].status == found["also"].status == "done" and time.monotonic() - began < 60


def test_a_worker_that_dies_is_told_and_replaced(pool):
    assert finished(pool, Work("good", (job(),)))["good"].status == "done"
    future = pool.pool.schedule(os._exit, args=[3])
    pool.running[future] = Work("dead", (job(),))
    (work, answer), *_ = [r for _ in range(3) if pool.busy for r in pool.results()]
    assert work.tag == "dead" and isinstance(answer, Lost) and answer.again
    assert finished(pool, Work("after", (job(),)))["after"].status == "done"


def test_too_much_memory_fails_that_cell_alone(tmp_path):
    side, store = 12_000, Store(tmp_path)
    file = str(store.file(store.put(np.zeros((1, side, side), np.float32))))
    big = job(operator=BLUR | {"shape": [1, side, side]}, x=file, y=file)
    with Local(workers=1, memory=1.5) as pool:
        found = finished(pool, Work("big", (big,)), Work("good", (job(),)))
    bad = found["big"]
    assert isinstance(bad, Lost) or (bad.status == "failed" and "memory" in bad.told["reason"].lower())
    assert found["good"].status == "done"


def test_too_many_threads_are_refused():
    with pytest.raises(SpecError, match="would only hinder each other"):
        Local(workers=1000, threads=8)


# --- whole runs ---


def test_a_suite_runs_searches_first_and_a_second_time_nothing(tmp_path):
    store = Store(tmp_path)
    first = run_suite(suite(), store)
    assert (first.finished, first.failed, first.reused) == (4, 0, 0)
    again = run_suite(suite(), store)
    assert again.reused == again.finished == 4
    (search,) = [r for r in store.rows() if r["kind"] == "search"]
    assert len(search["tried"]) == 3 and search["settings"]["prior.weight"] in (1.0, 5.0, 25.0)
    cells = [r for r in store.rows() if r["method"] == "TV" and r["kind"] == "cell"]
    assert all(
        c["settings"] == search["settings"] and c["spec"]["prior"]["weight"] == search["settings"]["prior.weight"]
        for c in cells
    )
    assert np.isfinite(store.get(cells[0]["image_name"])).all()


def test_the_best_setting_of_the_validation_images_is_taken(tmp_path):
    store = Store(tmp_path)
    run_suite(suite(), store)
    (search,) = [r for r in store.rows() if r["kind"] == "search"]
    best = max(search["tried"], key=lambda t: t[1])
    assert search["settings"] == best[0]
    made = plan(suite(), store)
    jobs = next(iter(made.searches.values())).jobs
    value, _ = mean_score([with_settings(j, best[0]) for j in jobs], "psnr")
    assert value == pytest.approx(best[1], abs=1e-6)


def test_optuna_stays_within_its_budget(tmp_path):
    pytest.importorskip("optuna")
    tune = {"search": {"prior.weight": [float(v) for v in range(1, 30)]}, "by": "optuna", "budget": 5}
    store = Store(tmp_path)
    run_suite(suite(methods__TV__tune=tune), store)
    (search,) = [r for r in store.rows() if r["kind"] == "search"]
    assert 1 <= len(search["tried"]) <= 5


def test_a_failing_method_leaves_the_others_and_can_be_tried_again(tmp_path):
    store = Store(tmp_path)
    bad = suite(
        methods__bad={"prior": {"name": "tv", "weight": 2.0}, "solver": {"name": "pdhg", "n_steps": 5}, "chains": 2}
    )
    end = run_suite(bad, store)
    assert end.failed == 2 and end.finished == 6
    rows = [r for r in store.rows() if r["status"] == "failed"]
    assert len(rows) == 2 and all("does not sample" in r["reason"] and "Traceback" in r["traceback"] for r in rows)
    assert run_suite(bad, store).reused == 6


def test_local_and_inline_give_the_same(tmp_path):
    stores = Store(tmp_path / "a"), Store(tmp_path / "b")
    run_suite(suite(), stores[0], Inline())
    run_suite(suite(), stores[1], Local(2))
    a, b = ({(r["method"], r["image"]): r["metrics"] for r in s.rows() if r["kind"] == "cell"} for s in stores)
    assert a == b
