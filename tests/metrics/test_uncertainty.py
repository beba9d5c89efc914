"""Uncertainty from samples: exact values, known autocorrelations, missing chains."""

import pytest
import torch

from pnpkit.errors import DataError, ShapeError, SpecError
from pnpkit.metrics import uncertainty


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_mean_and_std_leave_out_what_is_missing():
    samples = torch.tensor([[1.0, 2.0], [3.0, torch.nan], [5.0, 6.0]])
    assert uncertainty.mean(samples).tolist() == [3.0, 4.0]
    assert uncertainty.std(samples).tolist() == pytest.approx([2.0, 8**0.5])
    lonely = torch.tensor([[1.0], [torch.nan]])
    assert bool(uncertainty.std(lonely).isnan().all())


def test_std_of_complex_samples_is_that_of_each_component():
    samples = torch.complex(normal(4000, 3), normal(4000, 3, seed=1)) * 0.7
    assert uncertainty.std(samples).tolist() == pytest.approx([0.7] * 3, rel=0.03)
    with pytest.raises(DataError, match="abs"):
        uncertainty.quantile(samples, 0.5)


@pytest.mark.parametrize("n", [19, 39, 200])
def test_an_interval_holds_another_draw_as_often_as_it_says_for_any_number_of_samples(n):
    samples, ref = normal(n, 8, 5000), normal(8, 5000, seed=1)
    assert float(uncertainty.coverage(samples, ref, 0.9).mean()) == pytest.approx(0.9, abs=0.006)


def test_coverage_of_samples_that_are_too_narrow_is_too_small():
    samples, ref = 0.5 * normal(99, 2, 4000), normal(2, 4000, seed=1)
    assert float(uncertainty.coverage(samples, ref).mean()) == pytest.approx(0.589, abs=0.02)  # P(|n| < 0.822)


def test_too_few_samples_for_an_interval_and_other_bad_input():
    with pytest.raises(SpecError, match="needs 2/"):
        uncertainty.interval(normal(18, 3), 0.9)
    with pytest.raises(ShapeError, match=r"ref\.shape"):
        uncertainty.coverage(normal(30, 3), normal(4), 0.9)
    with pytest.raises(SpecError, match="lies in"):
        uncertainty.quantile(normal(3, 3), 1.5)
    with pytest.raises(ShapeError, match="K ≥ 4"):
        uncertainty.ess(normal(8, 3, 2))


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_effective_sample_size_of_autoregressive_chains(phi):
    """x' = phi·x + n has n(1 − phi)/(1 + phi) effective samples."""
    chains, length = 8, 4000
    noise = normal(length, chains, 5)
    x = [noise[0] / (1 - phi**2) ** 0.5]
    for n in noise[1:]:
        x.append(phi * x[-1] + n)
    series = torch.stack(x).movedim(1, 0)
    wanted = chains * length * (1 - phi) / (1 + phi)
    assert uncertainty.ess(series).tolist() == pytest.approx([wanted] * 5, rel=0.15)
    assert float(uncertainty.split_rhat(series).max()) < 1.02


def test_rhat_of_chains_that_disagree():
    """Means 0 and d, variance 1: R-hat² → 1 + Var(means of the halves)."""
    series = normal(2, 2000, 1)
    series[1] += 3
    wanted = (1 + 4 / 3 * 1.5**2) ** 0.5  # four halves: 0, 0, 3, 3
    assert float(uncertainty.split_rhat(series)) == pytest.approx(wanted, rel=0.03)
    drifting = torch.linspace(0, 5, 2000).double()[None, :, None] + normal(1, 2000, 1)
    assert float(uncertainty.split_rhat(drifting)) > 1.5


def test_a_chain_that_is_missing_is_left_out():
    series = normal(4, 500, 2)
    without = series[:3]
    series[3] = torch.nan
    assert torch.allclose(uncertainty.split_rhat(series), uncertainty.split_rhat(without))
    assert torch.allclose(uncertainty.ess(series), uncertainty.ess(without))
