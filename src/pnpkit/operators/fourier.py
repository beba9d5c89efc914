"""The 2-D discrete Fourier transform, and how it is centred without moving data."""

import math
from typing import Self

import torch

from pnpkit.errors import ShapeError
from pnpkit.operators.base import LinearOperator
from pnpkit.operators.gram import Gram
from pnpkit.types import Shape

AXES = (-2, -1)


def centring(shape: Shape, dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Complex phases (q, p), (H, W) each, with fftshift(fft2(ifftshift(x))) = p · fft2(q · x).

    By the shift theorem, with c = n // 2 along an axis of n: q_j = exp(2πi c j/n) and
    p_k = exp(2πi c (k − c)/n). Both are exactly ±1 when H and W are even. ``dtype`` is the precision.
    """
    q, p = torch.ones((), dtype=torch.complex128), torch.ones((), dtype=torch.complex128)
    for axis, n in zip(AXES, shape[-2:], strict=True):
        c, k = n // 2, torch.arange(n)
        size = [n if a == axis else 1 for a in AXES]
        q, p = (t * _unit(c * j, n).reshape(size) for t, j in ((q, k), (p, k - c)))
    return q.to(device, dtype.to_complex()), p.to(device, dtype.to_complex())


def _unit(turns: torch.Tensor, n: int) -> torch.Tensor:
    """exp(2πi turns/n) for integer ``turns``: reduced modulo n first, and exact at ±1."""
    angle = (turns % n).double() * (2 * math.pi / n)
    value = torch.polar(torch.ones_like(angle), angle)
    return torch.where(2 * turns % n == 0, value.real.round().to(value.dtype), value)


def unshift(values: torch.Tensor) -> torch.Tensor:
    """Centred (zero frequency in the middle) -> the order of ``torch.fft``."""
    return torch.fft.ifftshift(values, dim=AXES)


def shift(values: torch.Tensor) -> torch.Tensor:
    """The order of ``torch.fft`` -> centred."""
    return torch.fft.fftshift(values, dim=AXES)


def negate_index(values: torch.Tensor) -> torch.Tensor:
    """values[−k mod n] along the last two axes: what two forward transforms in a row do."""
    return values.flip(AXES).roll((1, 1), AXES)


class Fourier(LinearOperator):
    """Unitary 2-D DFT over the last two axes: complex images (C, H, W) <-> their spectra.

    Parameters
    ----------
    shape : image shape without batch, (C, H, W) or (C, D, H, W).
    centred : image centre and zero frequency at index n // 2 of each axis (the convention of MRI);
        False for ``torch.fft.fft2``'s order, both at index 0.
    """

    def __init__(self, shape: Shape, centred: bool = True):
        if len(shape) not in (3, 4):
            raise ShapeError(f"Fourier: shape is (C, H, W) or (C, D, H, W), given {tuple(shape)}.")
        super().__init__(shape, complex_in=True)
        self.shape, self.centred = tuple(shape), centred

    def _phases(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.derived("phases", lambda: centring(self.shape, self.dtype, self.device))

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.centred:
            return torch.fft.fft2(x, norm="ortho")
        q, p = self._phases()
        return torch.fft.fft2(q * x, norm="ortho").mul_(p)

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        if not self.centred:
            return torch.fft.ifft2(y, norm="ortho")
        q, p = self._phases()
        return torch.fft.ifft2(p.conj() * y, norm="ortho").mul_(q.conj())

    def _pull(self, g: Gram) -> Gram | None:
        """F^H diag(g) F filters the image; a filter G of the spectrum becomes a pixel weight."""
        if g.basis == "scalar":
            return g
        if g.basis == "pixel":
            return Gram("fourier2", unshift(g.values) if self.centred else g.values)
        if g.basis == "fourier2":
            flipped = negate_index(g.values)
            return Gram("pixel", shift(flipped) if self.centred else flipped)
        return None

    def _push(self, g: Gram) -> Gram | None:
        """F diag(g) F^H filters the spectrum; a filter G of the image becomes a weight on it."""
        if g.basis == "scalar":
            return g
        if g.basis == "pixel":
            return Gram("fourier2", negate_index(unshift(g.values) if self.centred else g.values))
        if g.basis == "fourier2":
            return Gram("pixel", shift(g.values) if self.centred else g.values)
        return None

    @classmethod
    def example(cls) -> Self:
        return cls(shape=(2, 6, 5))
