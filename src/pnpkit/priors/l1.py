"""Sparsity: L1 of an image's values or of its wavelet coefficients."""

import functools
from typing import Self

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from pnpkit.linalg import length
from pnpkit.operators.wavelet import Wavelet
from pnpkit.priors.base import Proximable
from pnpkit.types import Shape


def soft(z: torch.Tensor, threshold: torch.Tensor, group: int | None = None) -> torch.Tensor:
    """Shrink moduli by ``threshold``; with ``group``, the Euclidean norm over that axis."""
    size = z.abs() if group is None else length(z, group, keepdim=True)
    if group is None and not z.is_complex():
        return torch.sign(z) * torch.relu(size - threshold)
    return z * (torch.relu(size - threshold) / torch.where(size > 0, size, torch.ones_like(size)))


class L1(Proximable):
    """weight · Σ |x_i|, or Σ of Euclidean norms over one axis of the image.

    Parameters
    ----------
    weight : > 0, in units of 1/x.
    group : None, or the axis of the image (0 the first after the batch) whose entries form one group.
    """

    degree = 1

    def __init__(self, weight: PositiveFloat, group: NonNegativeInt | None = None):
        super().__init__()
        self.weight, self.group = weight, group

    def _prox(self, z: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        threshold = (self.weight * tau).reshape(-1, *[1] * (z.ndim - 1))
        return soft(z, threshold, None if self.group is None else self.group + 1)

    def _value(self, x: torch.Tensor) -> torch.Tensor:
        size = x.abs() if self.group is None else length(x, self.group + 1)
        return self.weight * size.flatten(1).sum(1)

    @classmethod
    def example(cls) -> Self:
        return cls(weight=0.3)


class Details(Proximable):
    """weight · Σ |details| of a wavelet pyramid; the coarse image is free. Part of ``L1Wavelet.terms``."""

    degree = 1

    def __init__(self, weight: PositiveFloat, depth: PositiveInt):
        super().__init__()
        self.weight, self.depth = weight, depth

    def _coarse(self, c: torch.Tensor) -> tuple[slice, ...]:
        return (slice(None), slice(None), *(slice(0, n // 2**self.depth) for n in c.shape[2:]))

    def _prox(self, z: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        out = soft(z, (self.weight * tau).reshape(-1, *[1] * (z.ndim - 1)))
        out[self._coarse(z)] = z[self._coarse(z)]
        return out

    def _value(self, x: torch.Tensor) -> torch.Tensor:
        free = x[self._coarse(x)].abs().flatten(1).sum(1)
        return self.weight * (x.abs().flatten(1).sum(1) - free)

    @classmethod
    def example(cls) -> Self:
        return cls(weight=0.3, depth=2)


class L1Wavelet(Proximable):
    """weight · Σ |wavelet details of x|; the coarse image is not penalised.

    The prox is exact for sizes that 2^levels divides (orthonormal W). For other sizes, and for ``shifts`` > 1, it is
    the prox of a convex function close to it (an average of proxes seen through an isometry), and FISTA minimises
    that one; ``value`` is the plain formula.

    Parameters
    ----------
    weight : > 0, in units of 1/x.
    wavelet, levels : as in the operator ``wavelet``.
    shifts : average the shrinkage over this many diagonal shifts (cycle spinning, Coifman & Donoho 1995): fewer
        block artefacts, that many times the cost.
    """

    degree = 1

    def __init__(
        self, weight: PositiveFloat, wavelet: str = "db4", levels: PositiveInt | None = None, shifts: PositiveInt = 1
    ):
        super().__init__()
        self.weight, self.wavelet, self.levels, self.shifts = weight, wavelet, levels, shifts

    def _operator(self, x: torch.Tensor) -> Wavelet:
        return _wavelet(tuple(x.shape[1:]), self.wavelet, self.levels, x.is_complex(), x.dtype.to_real(), x.device)

    def _prox(self, z: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        w = self._operator(z)
        details = Details(weight=self.weight, depth=w.depth)
        axes = tuple(range(2, z.ndim))
        total = torch.zeros_like(z)
        for s in range(self.shifts):
            shifted = torch.roll(z, (s,) * len(axes), axes) if s else z
            x = w._adjoint(details._prox(w._forward(shifted), tau))
            total = total + (torch.roll(x, (-s,) * len(axes), axes) if s else x)
        return total / self.shifts

    def _value(self, x: torch.Tensor) -> torch.Tensor:
        w = self._operator(x)
        return Details(weight=self.weight, depth=w.depth)._value(w._forward(x))

    def terms(self, shape: Shape, dtype: torch.dtype):
        w = _wavelet(tuple(shape), self.wavelet, self.levels, dtype.is_complex, dtype.to_real(), torch.device("cpu"))
        return ((w, Details(weight=self.weight, depth=w.depth)),)

    @classmethod
    def example(cls) -> Self:
        return cls(weight=0.3, wavelet="db2", levels=2)


@functools.lru_cache(maxsize=16)
def _wavelet(
    shape: Shape, wavelet: str, levels: int | None, complex_: bool, dtype: torch.dtype, device: torch.device
) -> Wavelet:
    return Wavelet(shape=shape, wavelet=wavelet, levels=levels, complex=complex_).to(device, dtype)
