"""What samples say about their own uncertainty, and whether they are right: pure functions of samples (S, …).

NaN stands for a sample that is missing (a chain that diverged) and is left out.
"""

import torch

from pnpkit.errors import DataError, ShapeError, SpecError


def mean(samples: torch.Tensor) -> torch.Tensor:
    """Mean over the first axis."""
    if samples.is_complex():
        return torch.view_as_complex(torch.view_as_real(samples).nanmean(0))
    return samples.nanmean(0)


def std(samples: torch.Tensor) -> torch.Tensor:
    """Standard deviation over the first axis (n − 1), real; of each real component for complex samples."""
    counted = (~torch.isnan(samples)).sum(0)
    away = (samples - mean(samples)).abs().square()
    square = away.nansum(0) / (counted - 1).clamp_min(1) / (2 if samples.is_complex() else 1)
    return torch.where(counted > 1, square.sqrt(), torch.nan)


def quantile(samples: torch.Tensor, q: float) -> torch.Tensor:
    """The q-quantile over the first axis, linear between order statistics; real samples."""
    if samples.is_complex():
        raise DataError("Quantiles are of real numbers: take samples.abs() or samples.real first.")
    if not 0 <= q <= 1:
        raise SpecError(f"quantile: q lies in [0, 1], given {q}.")
    return samples.nanquantile(q, dim=0)


def interval(samples: torch.Tensor, level: float = 0.9) -> tuple[torch.Tensor, torch.Tensor]:
    """(low, high): the central credible interval of ``level`` of samples (S, …), each (…); real samples.

    Between the order statistics number j and S + 1 − j, j = (1 − level)/2·(S + 1), interpolated: another draw of the
    same distribution lies in it with probability ``level`` for any S. S must be at least 2/(1 − level) − 1.
    """
    n = samples.shape[0]
    if not 0 < level < 1 or n + 1 < 2 / (1 - level) - 1e-9:
        raise SpecError(f"interval: level lies in (0, 1) and needs 2/(1 − level) − 1 samples, given {level} and {n}.")
    tail = max(0.0, ((1 - level) / 2 * (n + 1) - 1) / (n - 1))  # the k-th of n, from 1, is the (k − 1)/(n − 1) quantile
    return quantile(samples, tail), quantile(samples, 1 - tail)


def coverage(samples: torch.Tensor, ref: torch.Tensor, level: float = 0.9) -> torch.Tensor:
    """Share of the pixels of ref (B, …) inside ``interval(samples, level)`` of samples (S, B, …), (B,).

    About ``level`` where ref is one more draw of what the samples are drawn from.
    """
    if samples.shape[1:] != ref.shape:
        raise ShapeError(f"coverage: samples are (S, *ref.shape), given {tuple(samples.shape)} and {tuple(ref.shape)}.")
    if samples.is_complex():
        samples, ref = torch.view_as_real(samples), torch.view_as_real(ref)
    low, high = interval(samples, level)
    return ((low <= ref) & (ref <= high)).to(torch.float32).flatten(1).mean(1)


def split_rhat(chains: torch.Tensor) -> torch.Tensor:
    """Split R-hat (Gelman et al., Bayesian Data Analysis, 3rd ed., eq. 11.4) of chains (C, K, …), real, (…).

    √(((K/2 − 1)/(K/2)·W + B/(K/2))/W) of the 2C half chains; 1 when halves and chains agree. Complex: the larger one
    of the two components.
    """
    if chains.is_complex():
        return split_rhat(torch.view_as_real(chains)).amax(-1)
    halves = _halves(chains)
    n = halves.shape[1]
    within = halves.var(1).nanmean(0)
    between = _nanvar(halves.mean(1))
    return (((n - 1) / n * within + between) / within).sqrt()


def ess(chains: torch.Tensor) -> torch.Tensor:
    """Effective sample size of the mean of chains (C, K, …), real, (…): BDA3 eq. 11.8, Geyer's initial positive pairs.

    C·K/(1 + 2·Σρ_t) with autocorrelations of the half chains pooled. Complex: the smaller one of the components.
    """
    if chains.is_complex():
        return ess(torch.view_as_real(chains)).amin(-1)
    halves = _halves(chains)
    m, n = halves.shape[:2]
    away = halves - halves.mean(1, keepdim=True)
    spectrum = torch.fft.rfft(away, n=2 * n, dim=1)
    lagged = torch.fft.irfft(spectrum.abs().square(), n=2 * n, dim=1)[:, :n] / n  # autocovariances
    within = halves.var(1).nanmean(0)
    total = (n - 1) / n * within + _nanvar(halves.mean(1))
    counted = (~torch.isnan(halves[:, 0])).sum(0)
    rho = 1 - (within - lagged.nanmean(0) * n / (n - 1)) / total
    rho[0] = 1
    pairs = rho[: n - n % 2].unflatten(0, (-1, 2)).sum(1)
    kept = (pairs > 0).cumprod(0)
    pairs = torch.cummin(pairs, 0).values * kept  # Geyer's monotone sequence
    time = (2 * pairs.sum(0) - 1).clamp_min(1 / torch.tensor(float(m * n)).log10())
    return counted * n / time


def _halves(chains: torch.Tensor) -> torch.Tensor:
    """(C, K, …) -> (2C, K//2, …); the middle draw of an odd number is left out."""
    if chains.ndim < 2 or chains.shape[1] < 4:
        raise ShapeError(
            f"Chains are (C, K, …) with K ≥ 4 draws each, given {tuple(chains.shape)}: keep more draws of each chain, "
            "or judge independent chains by their spread."
        )
    n = chains.shape[1] // 2
    return torch.cat([chains[:, :n], chains[:, -n:]])


def _nanvar(values: torch.Tensor) -> torch.Tensor:
    """Variance over the first axis (n − 1) of what is not NaN."""
    counted = (~torch.isnan(values)).sum(0)
    return (values - values.nanmean(0)).square().nansum(0) / (counted - 1).clamp_min(1)
