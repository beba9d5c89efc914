"""An operator from outside pnpkit: this file and one entry-point line are all it takes."""

import torch

from pnpkit.operators.base import LinearOperator
from pnpkit.operators.gram import Gram


class Vignette(LinearOperator):
    """y = gain · x, fall-off of light towards the corners; gain (C, H, W), or one per sample."""

    theta = {"gain": 3}
    linear_in = ("gain",)

    def __init__(self, gain: torch.Tensor):
        super().__init__(in_shape=tuple(gain.shape[-3:]))
        self.hold(gain=gain)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gain * x

    def diagonal(self) -> Gram:
        return Gram.of("pixel", self.gain, rank=3)  # hence closed-form prox, pinv and norm

    @classmethod
    def example(cls) -> "Vignette":
        r2 = torch.linspace(-1, 1, 8)[:, None] ** 2 + torch.linspace(-1, 1, 10) ** 2
        return cls(gain=(1 / (1 + r2) ** 2).expand(3, 8, 10))
