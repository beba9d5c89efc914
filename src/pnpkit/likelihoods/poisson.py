"""Counts proportional to what is measured: emission tomography, photographs in little light."""

from typing import Self

import torch

from pnpkit.errors import DataError
from pnpkit.likelihoods.counts import TINY, Counts
from pnpkit.linalg import expand


class Poisson(Counts):
    """y ~ Poisson(gain·z + background), y in counts.

    Parameters
    ----------
    gain : expected counts per unit of z, > 0.
    background : expected background counts, ≥ 0: a number or a tensor broadcastable to y; one axis more than a
        measurement has is the batch.
    """

    name = "poisson"

    def __init__(self, gain: float = 1.0, background: float | torch.Tensor = 0.0):
        super().__init__(gain, background, "counts")

    def rate(self, z: torch.Tensor) -> torch.Tensor:
        """Expected counts; DataError where they are negative."""
        rate = self.gain * z + self.background
        if bool((rate < 0).any()):
            raise DataError(
                f"Poisson: expected counts reach {float(rate.min()):.3g} < 0. Use a solver that keeps x ≥ 0 "
                "(mlem, or pgd with the prior 'box'), or give the background."
            )
        return rate

    def grad(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        rate = self.rate(z)
        # y = 0 with rate = 0 contributes nothing; y > 0 with rate = 0 is +inf, as it should be.
        return self.gain * (1 - torch.where(y == 0, torch.zeros_like(y), y / rate))

    def prox(self, v: torch.Tensor, y: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        """The root ≥ 0 of r² − (gain·v + b − tau·gain²)·r − tau·gain²·y = 0, r = gain·z + b the rate."""
        t = expand(tau, v) * self.gain**2
        half = 0.5 * (self.gain * v + self.background - t)
        root = torch.sqrt(half * half + t * y)
        # The quotient form where half < 0: there the sum would cancel.
        rate = torch.where(half > 0, half + root, t * y / torch.where(half > 0, 1, (root - half).clamp_min(TINY)))
        return (rate - self.background) / self.gain

    def invert(self, y: torch.Tensor) -> torch.Tensor:
        return (y - self.background) / self.gain

    def feasible(self, z: torch.Tensor) -> torch.Tensor:
        return ~(self.gain * z + self.background < 0).flatten(1).any(1)

    def admitted(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Rates of less than 1% of the sample's mean count are raised to it."""
        least = expand(0.01 * y.flatten(1).mean(1).clamp_min(TINY), z)
        return torch.maximum(z, (least - self.background) / self.gain)

    def weights(self, y: torch.Tensor) -> torch.Tensor:
        return self.gain**2 / y.clamp_min(1)

    def _with(self, gain: float, background: torch.Tensor) -> "Poisson":
        return Poisson(gain=gain, background=background)

    @classmethod
    def example(cls) -> Self:
        return cls(gain=20.0, background=torch.tensor([0.5, 1.0, 0.0, 2.0, 0.1, 3.0]))
