"""Blur that changes across the image."""

from typing import Self

import torch

from pnpkit.errors import ShapeError
from pnpkit.operators.base import LinearOperator
from pnpkit.operators.blur import check_kernel
from pnpkit.operators.periodic import otf
from pnpkit.types import Shape


class VaryingBlur(LinearOperator):
    """y = Σ_k h_k ∗ (w_k·x): several blurs blended by maps, circular (Nagy & O'Leary, SIAM J. Sci. Comput. 19, 1998).

    With maps that sum to 1 the blur at a pixel is the mean of the kernels, weighted by the maps at the pixel that the
    light came from. ``blend_maps`` makes smooth ones.

    Parameters
    ----------
    kernels : (K, 1 or C, h, w), centres at (h//2, w//2).
    maps : (K, H, W).
    shape : image shape (C, H, W).
    complex : whether images are complex.
    """

    theta = {"kernels": 4, "maps": 3}
    linear_in = ("kernels", "maps")

    def __init__(self, kernels: torch.Tensor, maps: torch.Tensor, shape: Shape, complex: bool = False):
        shape = tuple(shape)
        if kernels.ndim not in (4, 5) or maps.ndim not in (3, 4) or kernels.shape[-4] != maps.shape[-3]:
            raise ShapeError(
                f"VaryingBlur: kernels are (K, 1 or C, h, w) and maps (K, H, W), given {tuple(kernels.shape)} and "
                f"{tuple(maps.shape)}."
            )
        check_kernel("VaryingBlur", kernels.flatten(0, -4), shape)
        if tuple(maps.shape[-2:]) != shape[1:]:
            raise ShapeError(f"VaryingBlur: maps {tuple(maps.shape)} do not fit images {shape}.")
        super().__init__(shape, complex_in=complex)
        self.hold(kernels=kernels, maps=maps)
        self.shape, self.complex = shape, complex

    def _otf(self) -> torch.Tensor:
        """(K, 1 or C, H, W), or one set per sample."""
        return self.derived("otf", lambda: otf(self.kernels, self.shape[1:], half=not self.complex))

    def _fft(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.fft2(x) if self.complex else torch.fft.rfft2(x)

    def _image(self, spectrum: torch.Tensor) -> torch.Tensor:
        return torch.fft.ifft2(spectrum) if self.complex else torch.fft.irfft2(spectrum, s=self.shape[1:])

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._image((self._fft(self.maps.unsqueeze(-3) * x.unsqueeze(1)) * self._otf()).sum(1))

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return (self.maps.unsqueeze(-3) * self._image(self._fft(y).unsqueeze(1) * self._otf().conj())).sum(1)

    @classmethod
    def example(cls) -> Self:
        rng = torch.Generator().manual_seed(2)
        ramp = torch.linspace(0, 1, 6).expand(7, 6)
        return cls(
            kernels=torch.rand(2, 1, 3, 4, generator=rng) / 12, maps=torch.stack([ramp, 1 - ramp]), shape=(2, 7, 6)
        )
