"""Suites: what is refused, with the line, and what they expand to."""

import pytest

from pnpkit.bench.dry_run import told as dry_run
from pnpkit.bench.keys import code_version, weights_in
from pnpkit.bench.plan import filled, plan
from pnpkit.bench.store import Store
from pnpkit.bench.suite import Suite, read_suite
from pnpkit.errors import DataError, SpecError

from .toys import GAUSSIAN, SUITE, run, suite, written


@pytest.fixture
def store(tmp_path):
    with_store = Store(tmp_path / "store")
    yield with_store
    with_store.close()


@pytest.mark.parametrize("name", ["quick", "restoration", "mri", "ct", "posterior", "samplers", "blind", "speed"])
def test_shipped_suites_are_valid(name):
    assert read_suite(name).name == name


@pytest.mark.parametrize("name", ["blind", "speed"])
def test_nothing_of_a_shipped_suite_is_skipped(name, store):
    """On pictures that need no data folder."""
    told = read_suite(name)
    names = ["camera", "coins", "moon", "page", "chelsea", "coffee", "astronaut", "rocket"]
    pictures = {"kind": "samples", "names": names, "size": 256}
    data = {k: {**v.model_dump(), "source": pictures} for k, v in told.data.items()}
    made = plan(Suite(**{**told.model_dump(), "data": data}), store)
    lines = list(dry_run(made, store, 1))
    assert not made.skipped and {c.method for c in made.cells} == set(told.methods) and len(lines) > len(told.methods)


def test_a_mistake_is_told_with_its_line(tmp_path):
    text = written(tmp_path).read_text().replace("n_steps: 5", "n_steps: 5\n    chain: 3", 1)
    path = written(tmp_path, text)
    line = next(i for i, t in enumerate(text.splitlines(), 1) if "chain:" in t)
    with pytest.raises(SpecError, match=rf"line {line}: methods.tikhonov.chain: unknown field. Did you mean 'chains'"):
        read_suite(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": ["psnrr"]}, "no metric 'psnrr'. Did you mean 'psnr'"),
        ({"baseline": "tickhonov"}, "no baseline 'tickhonov'. Did you mean 'tikhonov'"),
        ({"methods__tikhonov__tasks": ("blurr",)}, "no task 'blurr'. Did you mean 'blur'"),
        ({"methods__TV__tune": {"search": {}}}, "search"),
        ({"methods__TV__tune": {"search": {"prior.weight": [1.0]}, "by": "optuna"}}, "Optuna needs a budget"),
        ({"methods__TV__tune": {"search": {"weight": [1.0]}}}, "prior.NAME or solver.NAME, given 'weight'"),
        ({"methods__tikhonov__command": ("cp",)}, "either a command, or a call, or a prior and a solver"),
        ({"methods__tikhonov__call": "a:b"}, "either a command, or a call, or a prior and a solver"),
        ({"methods__tikhonov": {"call": "nocolon"}}, "call"),
        ({"methods__tikhonov__settings": {"n_steps": 3}}, "there is no call"),
        (
            {"methods__TV": {"call": "a:b", "tune": {"search": {"solver.n_steps": [1]}}}},
            "only a prior and a solver",
        ),
        ({"tasks__blur__unknown": {"kernle": 1}}, "no 'kernle' to leave unknown. Did you mean 'kernel'"),
        ({"tasks__blur__unknown": {"name": "identity"}}, "no 'name' to leave unknown"),
        ({"methods__TV__oracle": True}, "'TV' is an oracle, but none of its tasks leaves anything unknown"),
        ({"data__shapes__test": 0}, "test"),
    ],
)
def test_mistakes_are_refused(change, message):
    with pytest.raises((SpecError, ValueError), match=message):
        suite(**change)


def test_a_misspelt_suite_has_a_suggestion(tmp_path):
    with pytest.raises(DataError, match="Did you mean 'quick'"):
        read_suite("quik")
    path = written(tmp_path, "name: [")
    with pytest.raises(SpecError, match="not valid YAML"):
        read_suite(path)


def test_overrides(tmp_path):
    path = written(tmp_path)
    changed = read_suite(path, ["methods.TV.solver.n_steps=9", "repeats=3"])
    assert changed.methods["TV"].solver["n_steps"] == 9 and changed.repeats == 3
    with pytest.raises(SpecError, match=r"has no 'method' there\. Did you mean 'methods'"):
        read_suite(path, ["method.TV.solver=1"])
    with pytest.raises(SpecError, match="name=value"):
        read_suite(path, ["repeats"])


def test_it_expands_to_every_image_seed_and_method(store):
    made = plan(suite(tasks__blur__seeds=(0, 1)), store)
    assert len(made.cells) == 2 * 2 * 2 and len({c.key for c in made.cells}) == 8
    assert len(made.searches) == 1 and len(next(iter(made.searches.values())).settings) == 3


def test_methods_of_one_group_see_the_same_measurement(store):
    cells = plan(suite(), store).cells
    for image in (0, 1):
        assert len({(c.job.x, c.job.y) for c in cells if c.image == image}) == 1
    assert cells[0].job.y != cells[1].job.y


def test_tuning_never_sees_a_test_image(store):
    made = plan(suite(), store)
    tests = {c.job.x for c in made.cells}
    assert not tests & {j.x for s in made.searches.values() for j in s.jobs}


def test_what_cannot_run_is_skipped_with_the_capability_sentence(store):
    told = suite(methods__unet={"prior": "photos", "solver": {"name": "hqs"}})  # colour, the images are grey
    made = plan(told, store)
    (skipped,) = made.skipped
    assert skipped.method == "unet" and "it works on images (3, None, None), these are (1, 24, 24)" in skipped.reason


WIDE = {"make": "gaussian_kernel", "size": 5, "std": 2.0}


def test_methods_are_not_told_what_is_unknown_but_an_oracle_is(store):
    methods = {m: {**SUITE["methods"]["tikhonov"], "oracle": m == "oracle"} for m in ("guess", "oracle")}
    methods["TV"] = SUITE["methods"]["TV"]
    made = plan(suite(tasks__blur__unknown={"kernel": WIDE}, methods=methods), store)
    for cell in made.cells:
        assert cell.job.operator["kernel"] == (GAUSSIAN if cell.method == "oracle" else WIDE)
    (search,) = made.searches.values()
    assert all(j.operator["kernel"] == WIDE for j in search.jobs)
    assert {c.job.y for c in made.cells} == {c.job.y for c in plan(suite(), store).cells}
    run(made, store)
    mean = {m: [r["metrics"]["psnr"] for r in store.rows() if r["method"] == m] for m in ("guess", "oracle")}
    assert sum(mean["oracle"]) > sum(mean["guess"])


def test_an_unknown_that_does_not_fit_is_refused(store):
    with pytest.raises(SpecError, match=r"unknown kernel is \(1, 5, 5\), given \(1, 7, 7\) in its place"):
        plan(suite(tasks__blur__unknown={"kernel": WIDE | {"size": 7}}), store)
    with pytest.raises(SpecError, match="leaves shape unknown, which is no parameter of Blur; it has: kernel"):
        plan(suite(tasks__blur__unknown={"shape": "$shape"}), store)


def test_a_function_that_cannot_be_called_is_told(store):
    for name, reason in (
        ("nothing.here:f", "No module named 'nothing'"),
        ("math:sine", "has no attribute 'sine'"),
        ("math:sqrt", "written in Python"),
    ):
        with pytest.raises(SpecError, match=reason):
            plan(suite(methods__tikhonov={"call": name}), store)


def test_a_dry_run_tells_the_grid_the_reasons_and_the_time(store):
    told_suite = suite(methods__unet={"prior": "photos", "solver": {"name": "hqs"}})
    made = plan(told_suite, store)
    lines = "\n".join(dry_run(made, store, 1))
    assert "TV: 2 cells (0 finished), tuned over 3 settings" in lines and "unet: skipped" in lines
    assert "no time is known yet of: tikhonov, TV" in lines
    run(made, store)
    assert "about 0 s with 1 workers" in "\n".join(dry_run(made, store, 1))


def test_too_many_cells_and_none_are_refused(store):
    with pytest.raises(SpecError, match="has 4 cells, more than its limit of 3"):
        plan(suite(limit=3), store)
    with pytest.raises(SpecError, match="No method has 'none' in its name; there are: tikhonov, TV"):
        plan(suite(), store, {"method": "none"})
    with pytest.raises(SpecError, match="expands to nothing"):
        plan(suite(methods__tikhonov__tasks=(), methods__TV__tasks=()), store)


def test_more_images_than_there_are_and_tuning_without_any_are_refused(store):
    with pytest.raises(SpecError, match="hold 4 images, the suite wants 5"):
        plan(suite(data__shapes__test=4), store)
    with pytest.raises(SpecError, match="has no validation images"):
        plan(suite(data__shapes__validation=0), store)


def test_keys_follow_what_results_depend_on(store, monkeypatch):
    def key(told: Suite) -> str:
        return plan(told, store).cells[0].key

    same = key(suite())
    assert same == key(suite())
    assert same == key(suite(timeout=5.0))
    assert same != key(suite(methods__tikhonov__solver={"name": "fista", "n_steps": 6}))
    assert same != key(suite(tasks__blur__noise={"name": "gaussian", "sigma": 0.06}))
    monkeypatch.setattr("pnpkit.bench.keys.code_version", lambda: "other")
    assert same != key(suite())


def test_weights_enter_keys_by_their_content(tmp_path):
    from pnpkit import registry

    assert list(weights_in({"prior": "photos"})) == [registry.card("photos")["sha256"]]
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"one")
    (one,) = weights_in([{"name": "unet", "weights": str(file)}])
    assert len(one) == 64 and len(code_version()) == 16


def test_placeholders():
    assert filled({"shape": "$shape", "mask": ["$plane", "$size"]}, [3, 4, 5]) == {
        "shape": [3, 4, 5], "mask": [[1, 4, 5], [4, 5]]
    }  # fmt: skip
    with pytest.raises(SpecError, match=r"\$shap is not known"):
        filled("$shap", [1, 2, 3])


def test_the_suite_itself_is_not_changed_by_the_tests():
    assert SUITE["name"] == "toy" and len(SUITE["methods"]) == 2
