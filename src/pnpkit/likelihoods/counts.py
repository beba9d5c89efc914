"""What noise models of counts share: a background, and what data may be."""

from abc import abstractmethod

import torch

from pnpkit.errors import DataError, ShapeError, SpecError
from pnpkit.likelihoods.base import Likelihood, show
from pnpkit.types import Shape

TINY = 1e-30  # a guard for 0/0, far below any rate


class Counts(Likelihood):
    """y ~ Poisson(rate(z)) with a background in the rate: a number, or a tensor as in ``Poisson``."""

    background: torch.Tensor

    def __init__(self, gain: float, background: float | torch.Tensor, unit: str):
        super().__init__()
        label = type(self).__name__
        if not 0 < gain < float("inf"):
            raise SpecError(f"{label}: gain is {unit} per unit of z and must be finite and > 0, given {gain}.")
        value = torch.as_tensor(background, dtype=None if isinstance(background, torch.Tensor) else torch.float32)
        if not bool((torch.isfinite(value) & (value >= 0)).all()):
            raise SpecError(f"{label}: background must be finite and ≥ 0, given {show(value)}.")
        self.gain = gain
        self.register_buffer("background", value.detach().clone())

    @abstractmethod
    def rate(self, z: torch.Tensor) -> torch.Tensor:
        """Expected counts."""

    @abstractmethod
    def _with(self, gain: float, background: torch.Tensor) -> "Counts":
        """The same model with these."""

    def sample(self, z: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        return torch.poisson(self.rate(z), generator=rng)

    def nll(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        rate = self.rate(z)
        return (rate - torch.xlogy(y, rate)).flatten(1).sum(1)

    def scaled(self, c: float | torch.Tensor) -> "Counts":
        return self._with(float(self.gain / c), self.background)

    def scaled_data(self, y: torch.Tensor, c: float) -> torch.Tensor:
        return y

    def _per_sample(self, rank: int | None) -> bool:
        return rank is not None and self.background.ndim == rank + 1 and self.background.shape[0] > 1

    def index(self, select, rank: int | None = None) -> "Counts":
        return self._with(self.gain, self.background[select]) if self._per_sample(rank) else self

    def repeat(self, n: int, rank: int | None = None) -> "Counts":
        if not self._per_sample(rank):
            return self
        return self._with(self.gain, self.background.repeat_interleave(n, 0))

    def rows(self, idx: torch.Tensor, axis: int, out_shape: Shape) -> "Counts":
        b = self.background
        varies = b.ndim >= -axis and b.shape[axis] > 1
        return self._with(self.gain, b.index_select(axis, idx)) if varies else self

    def check(self, y: torch.Tensor, out_shape: Shape) -> None:
        label = type(self).__name__
        if y.is_complex():
            raise DataError(f"{label}: counts are real, given a complex y.")
        if bool((y < 0).any()):
            raise DataError(f"{label}: counts are ≥ 0, but y reaches {float(y.min()):.3g}.")
        try:
            fits = torch.broadcast_shapes(self.background.shape, y.shape) == y.shape
        except RuntimeError:
            fits = False
        if not fits:
            raise ShapeError(
                f"{label}: background {tuple(self.background.shape)} does not broadcast to {tuple(y.shape)}."
            )
