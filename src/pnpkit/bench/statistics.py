"""What may be said of a comparison: intervals, paired differences, ranks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pnpkit.errors import SpecError

RESAMPLES = 2000
LOWER_IS_BETTER = ("nmse", "lpips")


@dataclass(frozen=True)
class Interval:
    """A mean and the ends of its bootstrap interval."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Difference:
    """a − b over the same images: its mean with an interval, and how often a was the better."""

    interval: Interval
    wins: int
    losses: int
    p: float  # two-sided sign test: how probable such a split is where neither is better

    @property
    def clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.interval.low > 0 or self.interval.high < 0


def mean_interval(values: Sequence[float], level: float = 0.95, seed: int = 0) -> Interval:
    """Mean of ``values`` with its percentile bootstrap interval (Efron & Tibshirani 1993, chapter 13), fixed seed.

    One value, or equal ones, have the interval of no width; NaN and Inf are refused.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise SpecError(f"mean_interval needs finite numbers in a row, at least one; given {x.shape}, {values!r:.60}.")
    if not 0 < level < 1:
        raise SpecError(f"level lies in (0, 1), given {level}.")
    rng = np.random.default_rng(seed)
    means = x[rng.integers(len(x), size=(RESAMPLES, len(x)))].mean(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(x.mean()), float(low), float(high), len(x))


def sign(metric: str) -> int:
    """1 where higher values of a metric are better, −1 where lower ones are."""
    return -1 if metric in LOWER_IS_BETTER else 1


def difference(a: Sequence[float], b: Sequence[float], level: float = 0.95, metric: str = "psnr") -> Difference:
    """a − b, value by value; ``metric`` says which sign is a win."""
    from scipy.stats import binomtest

    if len(a) != len(b):
        raise SpecError(f"Paired values must be as many: given {len(a)} and {len(b)}.")
    gap = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    up = sign(metric) * gap
    wins, losses = int((up > 0).sum()), int((up < 0).sum())
    p = float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
    return Difference(mean_interval(gap.tolist(), level), wins, losses, p)
