"""An operator from outside pnpkit, and a maker for its parameter: this file and an entry-point line for each."""

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
        return cls(gain=vignette_gain((3, 8, 10)))


def vignette_gain(shape: tuple[int, ...], strength: float = 1.0) -> torch.Tensor:
    """1/(1 + strength·r²)², r in half image sides: (C, H, W)."""
    r2 = torch.linspace(-1, 1, shape[-2])[:, None] ** 2 + torch.linspace(-1, 1, shape[-1]) ** 2
    return (1 / (1 + strength * r2) ** 2).expand(shape).clone()
