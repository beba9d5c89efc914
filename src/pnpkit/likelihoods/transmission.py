"""Counts behind an absorber: X-ray transmission."""

from typing import Self

import torch

from pnpkit.errors import CapabilityError, SpecError
from pnpkit.likelihoods.counts import Counts
from pnpkit.linalg import expand


class Transmission(Counts):
    """y ~ Poisson(counts·exp(−gain·z) + background): z are line integrals of attenuation (Beer–Lambert).

    The negative log-likelihood is convex in z where the background is 0, and not elsewhere (Erdoğan & Fessler, IEEE TMI
    18, 1999). For a solver of linear data, take logarithms: ``invert``, and a Gaussian of per-ray sigma 1/√y/gain.

    Parameters
    ----------
    counts : expected photons on a detector that nothing shades, > 0.
    gain : attenuation per unit of z (1 where z already has none), > 0.
    background : expected scatter and electronic counts, ≥ 0: as in ``Poisson``.
    """

    name = "transmission"

    def __init__(self, counts: float = 1e5, gain: float = 1.0, background: float | torch.Tensor = 0.0):
        if not 0 < counts < float("inf"):
            raise SpecError(f"Transmission: counts must be finite and > 0, given {counts}.")
        super().__init__(gain, background, "attenuation")
        self.counts = counts

    def rate(self, z: torch.Tensor) -> torch.Tensor:
        return self._unscattered(z) + self.background

    def _unscattered(self, z: torch.Tensor) -> torch.Tensor:
        return self.counts * torch.exp(-self.gain * z)

    def grad(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        through = self._unscattered(z)
        # y·(through/rate): without background 1, also where both are too small for the precision.
        share = torch.where(self.background > 0, through / (through + self.background), 1)
        return self.gain * (y * share - through)

    def prox(self, v: torch.Tensor, y: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        """a + W(tau·gain²·counts·exp(−gain·a))/gain with a = v − tau·gain·y, W Lambert's function; background 0."""
        if bool((self.background > 0).any()):
            raise CapabilityError("Transmission: with a background there is no closed-form prox; use pgd or fista.")
        t = expand(tau, v)
        a = v - t * self.gain * y
        log = torch.log(t * self.gain**2 * self.counts) - self.gain * a
        return a + lambert_of_exp(log) / self.gain

    def invert(self, y: torch.Tensor) -> torch.Tensor:
        """−log((y − background)/counts)/gain; rays with less than half a count above the background as with half."""
        return -torch.log((y - self.background).clamp_min(0.5) / self.counts) / self.gain

    def feasible(self, z: torch.Tensor) -> torch.Tensor:
        return torch.isfinite(self._unscattered(z)).flatten(1).all(1)

    def weights(self, y: torch.Tensor) -> torch.Tensor:
        through = (y - self.background).clamp_min(0.5)
        return self.gain**2 * through**2 / y.clamp_min(1)

    def _with(self, gain: float, background: torch.Tensor) -> "Transmission":
        return Transmission(counts=self.counts, gain=gain, background=background)

    @classmethod
    def example(cls) -> Self:
        return cls(counts=500.0, gain=0.4, background=torch.tensor([0.5, 1.0, 0.0, 2.0, 0.1, 3.0]))


def lambert_of_exp(u: torch.Tensor) -> torch.Tensor:
    """W(exp(u)): the w > 0 with w + log w = u, without overflow for any u, by six steps of Newton on this equation."""
    v = u.clamp_min(-80)
    small = torch.exp(v.clamp_max(1))
    w = torch.where(v > 1, v - torch.log(v.clamp_min(1)), small / (1 + small))
    for _ in range(6):
        w = w * (1 + v - torch.log(w)) / (1 + w)
    return torch.where(u < -80, torch.exp(u), w)
