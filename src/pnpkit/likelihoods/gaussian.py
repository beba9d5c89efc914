"""Additive Gaussian noise: white, or with a sigma per element."""

from typing import Self

import torch

from pnpkit.errors import ShapeError, SpecError
from pnpkit.likelihoods.base import Likelihood, show
from pnpkit.linalg import expand
from pnpkit.types import Shape


class Gaussian(Likelihood):
    """y = z + sigma·n.

    Parameters
    ----------
    sigma : standard deviation of each real component, > 0, in units of y: a number, (B,) one per
        sample, or one per element, (1 or B, *out_shape). The leading axis is always the batch.
    """

    name = "gaussian"
    sigma: torch.Tensor

    def __init__(self, sigma: float | torch.Tensor):
        super().__init__()
        value = torch.as_tensor(sigma, dtype=None if isinstance(sigma, torch.Tensor) else torch.get_default_dtype())
        if value.is_complex() or not bool((torch.isfinite(value) & (value > 0)).all()):
            raise SpecError(
                f"Gaussian: sigma must be real, finite and > 0 everywhere, given {show(value)}. For data without "
                "noise give a small sigma, e.g. 1e-3 of the measurement's standard deviation."
            )
        self.register_buffer("sigma", value.detach().clone())

    def std(self, z: torch.Tensor) -> torch.Tensor:
        """sigma, shaped to broadcast against z (B, *out_shape)."""
        s = self.sigma
        return s.reshape(-1, *[1] * (z.ndim - 1)) if s.ndim == 1 else s

    @property
    def per_element(self) -> bool:
        return self.sigma.ndim > 1

    def sample(self, z: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        return z + self.std(z) * randn_like(z, rng)

    def nll(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return 0.5 * (torch.abs(z - y) / self.std(z)).square().flatten(1).sum(1)

    def grad(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (z - y) / self.std(z) ** 2

    def prox(self, v: torch.Tensor, y: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        t = expand(tau, v) / self.std(v) ** 2
        return (v + t * y) / (1 + t)

    def weights(self, y: torch.Tensor) -> torch.Tensor:
        return torch.broadcast_to(self.std(y) ** -2, y.shape)

    def scaled(self, c: float | torch.Tensor) -> "Gaussian":
        return Gaussian(sigma=self.sigma * c)

    def check(self, y: torch.Tensor, out_shape: Shape) -> None:
        s = self.sigma
        fits = s.ndim == 0 or (s.shape[0] in (1, y.shape[0]) and s.shape[1:] in ((), torch.Size(out_shape)))
        if not fits:
            raise ShapeError(
                f"Gaussian: sigma has shape {tuple(s.shape)}; expected a number, ({y.shape[0]},) for one per sample, "
                f"or {(1, *out_shape)} / {(y.shape[0], *out_shape)} for one per element."
            )

    def _per_sample(self) -> bool:
        return self.sigma.ndim > 0 and self.sigma.shape[0] > 1

    def index(self, select, rank: int | None = None) -> "Gaussian":
        return Gaussian(sigma=self.sigma[select]) if self._per_sample() else self

    def repeat(self, n: int, rank: int | None = None) -> "Gaussian":
        return Gaussian(sigma=self.sigma.repeat_interleave(n, 0)) if self._per_sample() else self

    def rows(self, idx: torch.Tensor, axis: int, out_shape: Shape) -> "Gaussian":
        return Gaussian(sigma=self.sigma.index_select(axis, idx)) if self.per_element else self

    @classmethod
    def example(cls) -> Self:
        return cls(sigma=torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]]))


def randn_like(z: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Standard normal in each real component (torch's complex randn has variance 1 in total)."""
    if z.is_complex():
        return torch.view_as_complex(torch.randn(*z.shape, 2, dtype=z.real.dtype, device=z.device, generator=rng))
    return torch.randn(z.shape, dtype=z.dtype, device=z.device, generator=rng)
