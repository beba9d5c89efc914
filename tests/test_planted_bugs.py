"""Wrong implementations, and the named check that catches each. The correct twins pass everything.

A conformance suite is worth what it rejects. Every entry of ``planted`` is a mistake that some published
code has made (PEERS section E, and the list of issue 2), put into a component that is otherwise correct.
"""

import pytest

from pnpkit.likelihoods import Gaussian
from pnpkit.testing import run_checks

from .operators.toys_contracts import (
    Coils,
    Dense,
    Filter,
    GaussianImages,
    GaussianPosterior,
    Ridge,
    RunningSum,
    Saturation,
    SoftThreshold,
)
from .planted import operator_claims, operators, priors, solvers  # noqa: F401  (importing them registers the bugs)
from .planted.operator_claims import PerSampleThetaLandsOnChannels
from .planted.registry import BUGS
from .toys_solvers import DirectSampler, HalfQuadratic, Landweber, ProximalGradient

CORRECT = [
    Filter, Dense, Coils, RunningSum, Saturation, GaussianImages, GaussianPosterior, Ridge, SoftThreshold, Gaussian,
    Landweber, ProximalGradient, HalfQuadratic, DirectSampler,
]  # fmt: skip


@pytest.mark.parametrize(("cls", "check"), BUGS, ids=[f"{c.__name__}-{n}" for c, n in BUGS])
def test_wrong_implementation_is_caught(cls, check):
    outcomes = {o.name: o for o in run_checks(cls, only=[check])}
    assert outcomes[check].status == "failed", f"{cls.__name__} passes {check}"
    assert outcomes[check].message


@pytest.mark.parametrize("cls", CORRECT, ids=lambda c: c.__name__)
def test_correct_twin_passes_everything(cls):
    assert [f"{o.name}: {o.message}" for o in run_checks(cls) if o.bad] == []


def test_every_bug_has_a_correct_twin_and_there_are_enough():
    wrong = {cls for cls, _ in BUGS}
    assert len(wrong) >= 70
    orphans = [c.__name__ for c in wrong if not any(issubclass(c, good) for good in CORRECT)]
    assert orphans == ["PerSampleThetaLandsOnChannels"]  # its twin is the same class with a reshape, below


class PerSampleThetaOnSamples(PerSampleThetaLandsOnChannels):
    def _forward(self, x):
        return x * self.weight.reshape(*self.weight.shape, 1, 1)


def test_twin_of_the_per_sample_bug_passes():
    assert [f"{o.name}: {o.message}" for o in run_checks(PerSampleThetaOnSamples) if o.bad] == []
