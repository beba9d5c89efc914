"""Independent noise on the parts of a stack."""

from typing import Self

import torch
from torch import nn

from pnpkit.errors import CapabilityError, ShapeError, SpecError
from pnpkit.likelihoods.base import Likelihood
from pnpkit.likelihoods.gaussian import Gaussian
from pnpkit.likelihoods.poisson import Poisson
from pnpkit.types import Shape


class SplitLikelihood(Likelihood):
    """Independent noise on the parts of a ``Stack``'s flat measurement.

    Parameters
    ----------
    parts : one likelihood per operator of the stack; ``split`` sizes come from ``sizes``.
    sizes : number of measurements of each part.
    """

    name = "split"

    def __init__(self, parts: tuple[Likelihood, ...], sizes: tuple[int, ...]):
        super().__init__()
        if len(parts) != len(sizes) or not parts:
            raise SpecError(f"SplitLikelihood: {len(parts)} parts for {len(sizes)} sizes; give one size per part.")
        self._parts, self.sizes = nn.ModuleList(parts), sizes
        names = {p.name for p in parts}
        # A stack of Gaussians is Gaussian with a per-element sigma: same closed forms.
        self.name = "gaussian" if names == {"gaussian"} else "split"

    @property
    def parts(self) -> tuple[Likelihood, ...]:
        return tuple(self._parts)  # type: ignore[arg-type]

    def std(self, z: torch.Tensor) -> torch.Tensor:
        """Per-element sigma of the flat measurement, where every part is Gaussian."""
        if self.name != "gaussian":
            raise CapabilityError("SplitLikelihood: only parts that are all Gaussian have a sigma.")
        pieces = z.split(self.sizes, dim=1)
        rows = [torch.broadcast_to(p.std(s), s.shape) for p, s in zip(self.parts, pieces, strict=True)]  # type: ignore[attr-defined]
        return torch.cat(rows, 1)

    @property
    def per_element(self) -> bool:
        return True

    def prox(self, v: torch.Tensor, y: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        parts = zip(self.parts, v.split(self.sizes, 1), y.split(self.sizes, 1), strict=True)
        return torch.cat([p.prox(a, b, tau) for p, a, b in parts], 1)

    def invert(self, y: torch.Tensor) -> torch.Tensor:
        return torch.cat(self._each("invert", y), 1)

    def feasible(self, z: torch.Tensor) -> torch.Tensor:
        return torch.stack(self._each("feasible", z)).all(0)

    def admitted(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.cat(self._each("admitted", z, y), 1)

    def weights(self, y: torch.Tensor) -> torch.Tensor:
        return torch.cat(self._each("weights", y), 1)

    def _each(self, method: str, z: torch.Tensor, *others) -> list[torch.Tensor]:
        pieces = [t.split(self.sizes, dim=1) for t in (z, *[o for o in others if isinstance(o, torch.Tensor)])]
        extra = [o for o in others if not isinstance(o, torch.Tensor)]
        return [getattr(p, method)(*row, *extra) for p, *row in zip(self.parts, *pieces, strict=True)]

    def sample(self, z: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        return torch.cat(self._each("sample", z, rng), 1)

    def nll(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.stack(self._each("nll", z, y)).sum(0)

    def grad(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.cat(self._each("grad", z, y), 1)

    def _map(self, method: str, *args) -> "SplitLikelihood":
        return SplitLikelihood(parts=tuple(getattr(p, method)(*args) for p in self.parts), sizes=self.sizes)

    def scaled(self, c: float | torch.Tensor) -> "SplitLikelihood":
        return self._map("scaled", c)

    def scaled_data(self, y: torch.Tensor, c: float) -> torch.Tensor:
        pieces = y.split(self.sizes, dim=1)
        return torch.cat([p.scaled_data(s, c) for p, s in zip(self.parts, pieces, strict=True)], 1)

    def index(self, select, rank: int | None = None) -> "SplitLikelihood":
        return self._map("index", select, 1)

    def repeat(self, n: int, rank: int | None = None) -> "SplitLikelihood":
        return self._map("repeat", n, 1)

    def rows(self, idx: torch.Tensor, axis: int, out_shape: Shape) -> "SplitLikelihood":
        raise CapabilityError("SplitLikelihood: take rows of the parts before stacking them.")

    def check(self, y: torch.Tensor, out_shape: Shape) -> None:
        if len(out_shape) != 1 or sum(self.sizes) != out_shape[0]:
            raise ShapeError(f"SplitLikelihood: sizes {self.sizes} do not add up to the measurement {out_shape}.")
        for part, piece, size in zip(self.parts, y.split(self.sizes, dim=1), self.sizes, strict=True):
            part.check(piece, (size,))

    @classmethod
    def example(cls) -> Self:
        return cls(parts=(Gaussian(sigma=0.3), Poisson(gain=20.0, background=1.0)), sizes=(4, 2))
