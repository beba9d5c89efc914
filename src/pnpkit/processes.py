"""Noise paths and schedules: how diffusion models name their noise levels, and lists of levels to sample at."""

from dataclasses import dataclass
from typing import Literal

import torch

from pnpkit.errors import CapabilityError, SpecError


@dataclass(frozen=True)
class VP:
    """A variance-preserving path z_t = √ᾱ_t·x0 + √(1 − ᾱ_t)·n at t = 0 … T − 1, as sigma_t = √((1 − ᾱ_t)/ᾱ_t).

    Between the integers ln sigma is interpolated linearly: time and noise level are then inverse functions.
    """

    log_sigma: torch.Tensor  # (T,) float64, increasing

    @classmethod
    def from_betas(cls, betas: torch.Tensor) -> "VP":
        """From the steps β_t of DDPM (Ho et al. 2020), (T,), each in (0, 1)."""
        betas = torch.as_tensor(betas, dtype=torch.float64)
        if betas.ndim != 1 or len(betas) < 2 or not bool(((betas > 0) & (betas < 1)).all()):
            raise SpecError("VP: betas must be at least two numbers in (0, 1).")
        return cls.from_alpha_bars(torch.cumprod(1 - betas, 0))

    @classmethod
    def from_alpha_bars(cls, alpha_bars: torch.Tensor) -> "VP":
        """From ᾱ_t, (T,), falling, each in (0, 1)."""
        a = torch.as_tensor(alpha_bars, dtype=torch.float64)
        if a.ndim != 1 or len(a) < 2 or not bool(((a > 0) & (a < 1)).all()) or not bool((a.diff() < 0).all()):
            raise SpecError("VP: alpha_bars must be at least two falling numbers in (0, 1).")
        return cls(0.5 * (torch.log1p(-a) - a.log()))

    @classmethod
    def linear(cls, first: float = 1e-4, last: float = 0.02, n: int = 1000) -> "VP":
        """DDPM's betas, equally spaced."""
        return cls.from_betas(torch.linspace(first, last, n, dtype=torch.float64))

    @classmethod
    def cosine(cls, n: int = 1000, s: float = 0.008) -> "VP":
        """ᾱ_t = cos²((t/T + s)/(1 + s)·π/2), betas at most 0.999 (Nichol & Dhariwal 2021, eq. 17)."""
        t = torch.linspace(0, 1, n + 1, dtype=torch.float64)
        f = torch.cos((t + s) / (1 + s) * torch.pi / 2) ** 2
        return cls.from_betas((1 - f[1:] / f[:-1]).clamp(max=0.999))

    @property
    def sigma_range(self) -> tuple[float, float]:
        """What the path reaches."""
        return float(self.log_sigma[0].exp()), float(self.log_sigma[-1].exp())

    def time(self, sigma: torch.Tensor) -> torch.Tensor:
        """The fractional t at which the path has noise level sigma, in sigma's dtype; CapabilityError outside."""
        low, high = self.sigma_range
        if not bool(((sigma >= low * (1 - 1e-6)) & (sigma <= high * (1 + 1e-6))).all()):
            raise CapabilityError(
                f"VP: sigma {float(sigma.min()):.4g} to {float(sigma.max()):.4g} is outside what the path reaches, "
                f"[{low:.4g}, {high:.4g}]."
            )
        table = self.log_sigma.to(sigma.device)
        wanted = sigma.double().log().clamp(table[0], table[-1])
        i = torch.searchsorted(table, wanted).clamp(1, len(table) - 1)
        fraction = (wanted - table[i - 1]) / (table[i] - table[i - 1])
        return (i - 1 + fraction).to(sigma.dtype)

    def sigma(self, t: torch.Tensor) -> torch.Tensor:
        """Noise level at a fractional t in [0, T − 1]."""
        table = self.log_sigma.to(t.device)
        i = t.double().floor().long().clamp(0, len(table) - 2)
        return torch.lerp(table[i], table[i + 1], t.double() - i).exp().to(t.dtype)


def edm_sigmas(n: int, low: float, high: float, rho: float = 7.0) -> torch.Tensor:
    """(n + 1,): n levels from ``high`` to ``low``, equally spaced in sigma^(1/rho), then 0 (EDM, eq. 5)."""
    if n < 1 or not 0 < low <= high:
        raise SpecError(f"edm_sigmas: n ≥ 1 and 0 < low ≤ high, given n = {n}, low = {low}, high = {high}.")
    ramp = torch.linspace(0, 1, n, dtype=torch.float64)
    levels = (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    return torch.cat([levels, torch.zeros(1, dtype=torch.float64)])


Output = Literal["eps", "v", "score", "x0"]
