"""The suite itself: what a check run reports, how names are selected, what a third party gets from it."""

import os
import subprocess
import sys
import time
from importlib.metadata import EntryPoint

import pytest
import torch

from pnpkit import registry
from pnpkit.errors import CapabilityError, RegistryError, WeightsError
from pnpkit.testing import (
    ConformanceError,
    Outcome,
    assert_conforms,
    check_all,
    check_names,
    checks_for,
    run_checks,
    selected,
)
from pnpkit.testing.measure import (
    expect_close,
    expect_raises,
    expect_same,
    global_rng_untouched,
    relative_error,
    untouched,
)
from pnpkit.testing.problems import IsotropicGaussian, IsotropicPosterior, Mixing, Quadratic, Sparse

from .operators.toys_contracts import Filter, SoftThreshold


class TwicePerfect(Filter):
    expected_failures = {"adjoint": "known since the beginning"}


class HonestlyWrong(Filter):
    expected_failures = {
        "adjoint": "off by one percent",
        "dense_adjoint": "off by one percent",
        "vjp_is_autograd": "off by one percent",
    }

    def _adjoint(self, y):
        return 1.01 * super()._adjoint(y)


class MisspeltExpectation(Filter):
    expected_failures = {"adjont": "a slip"}


class Crashes(Filter):
    def _forward(self, x):
        raise RuntimeError("boom")


class NoWeights(SoftThreshold):
    @classmethod
    def example(cls):
        raise WeightsError("no_weights.safetensors is not here; put it into PNPKIT_WEIGHTS.")


class NoExample(SoftThreshold):
    @classmethod
    def example(cls):
        raise CapabilityError("NoExample has no example()")


def outcome(component, name: str) -> Outcome:
    return next(o for o in run_checks(component) if o.name == name)


def test_expected_failure_that_fails_is_xfailed_with_its_reason():
    found = outcome(HonestlyWrong, "adjoint")
    assert found.status == "xfailed" and not found.bad
    assert "off by one percent" in found.message and "expected at most" in found.message


def test_expected_failure_that_passes_is_a_failure():
    found = outcome(TwicePerfect, "adjoint")
    assert found.status == "xpassed" and found.bad and "known since the beginning" in found.message


def test_expected_failure_of_no_check_is_a_failure_with_a_suggestion():
    found = outcome(MisspeltExpectation, "adjont")
    assert found.bad and "'adjoint'" in found.message


def test_a_crash_is_a_failed_check_not_a_crashed_run():
    outcomes = run_checks(Crashes)
    assert outcome(Crashes, "shapes").message == "raised RuntimeError: boom"
    assert outcome(Crashes, "described").status == "passed"
    assert len(outcomes) == len(run_checks(Filter))


def test_missing_weights_skip_the_component_and_a_missing_example_fails_it():
    (skipped,) = run_checks(NoWeights)
    assert (skipped.name, skipped.status) == ("example", "skipped") and "PNPKIT_WEIGHTS" in skipped.message
    (failed,) = run_checks(NoExample)
    assert failed.bad and "no example()" in failed.message


def test_only_runs_the_checks_named_and_refuses_unknown_ones():
    assert [o.name for o in run_checks(Filter, only=["adjoint"])] == ["adjoint"]
    with pytest.raises(RegistryError, match="'adjoint'"):
        run_checks(Filter, only=["adjont"])


def test_assert_conforms_lists_all_failures_at_once():
    assert_conforms(Filter)
    with pytest.raises(ConformanceError, match=r"(?s)Crashes fails \d\d check.*shapes: raised RuntimeError: boom"):
        assert_conforms(Crashes)


def test_messages_say_what_was_expected_and_what_was_measured():
    class Halved(Filter):
        def _adjoint(self, y):
            return 0.5 * super()._adjoint(y)

    message = outcome(Halved.example(), "adjoint").message
    assert "⟨Ax, y⟩ − ⟨x, A^H y⟩ is" in message and "expected at most" in message


def test_every_kind_has_checks_and_names_are_unique_within_it():
    for kind in registry.KINDS:
        assert check_names(kind), kind
    names = [c.name for c in checks_for(Filter.example(), "operators")]
    assert len(names) == len(set(names)) >= 45


def test_every_check_says_what_it_checks():
    for kind in registry.KINDS:
        from pnpkit.testing.core import _CHECKS

        assert [c.name for c in _CHECKS if c.kind == kind and not c.function.__doc__] == []


@pytest.mark.parametrize("cls", [Mixing, IsotropicGaussian, IsotropicPosterior, Quadratic, Sparse])
def test_the_suite_s_own_reference_components_conform(cls):
    assert [f"{o.name}: {o.message}" for o in run_checks(cls) if o.bad] == []


# --- selection ---


def test_selected_by_name_by_kind_and_name_and_by_package():
    assert selected(["inpainting"]) == [("operators", "inpainting")]
    assert selected(["operators/inpainting"]) == [("operators", "inpainting")]
    assert ("operators", "inpainting") in selected(["pnpkit"])
    assert {k for k, _ in selected(kind="likelihoods")} == {"likelihoods"}
    assert len(selected()) > 40
    assert selected(["inpainting", "operators/inpainting"]) == [("operators", "inpainting")]


def test_selecting_what_is_not_there_suggests():
    with pytest.raises(RegistryError, match="Did you mean 'inpainting'"):
        selected(["inpaintin"])


def test_a_plugin_package_is_selected_by_its_distribution_name():
    pytest.importorskip("pnpkit_example_plugin")
    assert selected(["pnpkit-example-plugin"]) == [("operators", "vignette"), ("makers", "vignette_gain")]
    report, maker = check_all(["pnpkit-example-plugin"])
    assert maker.ok and report.ok and report.name == "vignette" and len(report.outcomes) > 45


def test_a_component_that_cannot_be_imported_is_reported_and_the_others_go_on(monkeypatch):
    broken = EntryPoint("broken", "no_such_module_anywhere:Thing", "pnpkit.likelihoods")
    entries = {**registry._entries("likelihoods"), "broken": broken}
    monkeypatch.setattr(registry, "_entries", lambda kind: entries)
    reports = {r.name: r for r in check_all(kind="likelihoods")}
    assert not reports["broken"].ok and "no_such_module_anywhere" in reports["broken"].outcomes[0].message
    assert reports["gaussian"].ok


def test_a_component_takes_less_than_two_seconds():
    began = time.perf_counter()
    reports = list(check_all(["inpainting", "diagonal", "compose", "stack", "gaussian"]))
    assert all(r.ok for r in reports) and time.perf_counter() - began < 2 * len(reports)


def test_pytest_pyargs_runs_the_suite_on_what_the_environment_variable_names():
    command = [sys.executable, "-m", "pytest", "-q", "--pyargs", "pnpkit.testing", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command, env={**os.environ, "PNPKIT_CHECK": "inpainting,poisson"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


# --- what checks measure with ---


def test_relative_error_is_per_sample_and_never_forgives_nan():
    wanted = torch.tensor([[1.0, 0.0], [1e-6, 0.0]])
    assert relative_error(wanted + torch.tensor([[0, 0], [1e-6, 0]]), wanted) == pytest.approx(1.0)
    assert relative_error(wanted * float("nan"), wanted) == float("inf")
    assert relative_error(torch.zeros(2, 3), torch.zeros(2, 3)) == 0.0
    infinite = torch.tensor([[float("inf"), 1.0]])
    assert relative_error(infinite, infinite) == 0.0
    assert relative_error(infinite, torch.ones(1, 2)) == float("inf")


def test_expect_close_compares_shape_and_dtype_before_values():
    with pytest.raises(ConformanceError, match=r"measured \(2, 1\)"):
        expect_close(torch.ones(2, 1), torch.ones(2, 2), 1e-3, "it")
    with pytest.raises(ConformanceError, match=r"float64"):
        expect_close(torch.ones(2, dtype=torch.float64), torch.ones(2), 1e-3, "it")
    with pytest.raises(ConformanceError, match=r"relative error 1.00e-02"):
        expect_close(torch.tensor(1.01), torch.tensor(1.0), 1e-3, "it")


def test_expect_same_sees_one_bit():
    one = torch.ones(3)
    with pytest.raises(ConformanceError, match="bitwise"):
        expect_same(one * (1 + 2**-23), one, "it")


def test_expect_raises_names_what_came_instead():
    with pytest.raises(ConformanceError, match="nothing was raised"):
        expect_raises(ValueError, lambda: None, "it")
    with pytest.raises(ConformanceError, match="raised KeyError"):
        expect_raises(TypeError, lambda: {}["x"], "it")


def test_guards_see_writes_and_random_draws_and_put_the_generators_back():
    t = torch.zeros(3)
    with pytest.raises(ConformanceError, match="wrote into its input 0"), untouched("it", t):
        t[1] = 1
    state = torch.get_rng_state()
    with pytest.raises(ConformanceError, match="torch"), global_rng_untouched("it"):
        torch.rand(1)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ConformanceError, match="torch"), global_rng_untouched("it"):
        torch.manual_seed(0)
