"""Fourier phase retrieval: the magnitude of an oversampled spectrum."""

import math
from typing import Annotated, Self

import torch
from pydantic import Field

from pnpkit.errors import ShapeError
from pnpkit.operators.base import Operator
from pnpkit.types import Shape


class PhaseRetrieval(Operator):
    """y = |F(pad(x))|: (C, H, W) -> (C, H', W'), real; non-linear.

    pad puts zeros below and right of the image up to H' = ⌈oversampling·H⌉, W' likewise; F is the
    orthonormal 2-D DFT in ``torch.fft``'s order, so ‖y‖ = ‖x‖. With an oversampling of 2 or more the
    magnitudes hold the whole autocorrelation of x, which fixes almost every image up to shift, flip and
    a global phase (Hayes, IEEE TASSP 30, 1982).

    At a zero of the spectrum, where |·| has no derivative, the gradient is taken as 0, the element of
    least norm of its subdifferential.

    Parameters
    ----------
    shape : image shape (C, H, W) without batch.
    oversampling : size of the spectrum over that of the image, per axis, ≥ 1.
    complex : whether images are complex; a real image's gradient is the real one.
    """

    def __init__(self, shape: Shape, oversampling: Annotated[float, Field(ge=1, le=16)] = 2.0, complex: bool = False):
        if len(shape) != 3:
            raise ShapeError(f"PhaseRetrieval: shape is (C, H, W), given {tuple(shape)}.")
        spectrum = tuple(math.ceil(oversampling * n) for n in shape[-2:])
        super().__init__(shape, (shape[0], *spectrum), complex_in=complex, complex_out=False)
        self.shape, self.oversampling, self.complex = tuple(shape), oversampling, complex

    def _spectrum(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.fft2(x, s=self.out_shape[-2:], norm="ortho")

    def _back(self, spectrum: torch.Tensor) -> torch.Tensor:
        """The adjoint of ``_spectrum``: inverse transform, cropped; its real part for real images."""
        height, width = self.shape[-2:]
        image = torch.fft.ifft2(spectrum, norm="ortho")[..., :height, :width]
        return image.contiguous() if self.complex else image.real.contiguous()

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._spectrum(x).abs()

    def _vjp(self, x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        # d|z| = Re(conj(sgn z) dz), with sgn 0 = 0.
        return self._back(v * torch.sgn(self._spectrum(x)))

    def initial(self, y: torch.Tensor, rng: torch.Generator | None = None) -> torch.Tensor:
        """The inverse transform of the magnitudes y under uniformly random phases, cropped."""
        rng = torch.Generator(y.device).manual_seed(0) if rng is None else rng
        phase = torch.rand(y.shape, dtype=y.dtype, device=y.device, generator=rng) * (2 * math.pi)
        return self._back(torch.polar(y, phase))

    @classmethod
    def example(cls) -> Self:
        return cls(shape=(2, 6, 5), oversampling=1.5)
