"""Coded diffraction patterns: magnitudes of the spectrum behind several masks."""

from typing import Self

import torch

from pnpkit.errors import ShapeError
from pnpkit.operators.base import Operator
from pnpkit.types import Shape


class CodedDiffraction(Operator):
    """y_k = |F(code_k·x)|: (C, H, W) -> (K·C, H, W), real; non-linear (Candès, Li & Soltanolkotabi 2015, eq. 1.3).

    F is the orthonormal 2-D DFT in ``torch.fft``'s order. With unimodular codes ‖y‖² = K·‖x‖². At a zero of a spectrum
    the gradient is taken as 0, as in ``PhaseRetrieval``.

    Parameters
    ----------
    codes : (K, H, W), real or complex; or (B, K, H, W) for one set per sample. ``phase_codes`` makes octanary ones.
    shape : image shape (C, H, W).
    complex : whether images are complex; a real image's gradient is the real one.
    """

    theta = {"codes": 3}
    row_axis = -3

    def __init__(self, codes: torch.Tensor, shape: Shape, complex: bool = False):
        shape = tuple(shape)
        if len(shape) != 3 or codes.ndim not in (3, 4) or tuple(codes.shape[-2:]) != shape[1:]:
            raise ShapeError(
                f"CodedDiffraction: codes are (K, H, W) for images (C, H, W) = {shape}, given {tuple(codes.shape)}."
            )
        super().__init__(shape, (codes.shape[-3] * shape[0], *shape[1:]), complex_in=complex, complex_out=False)
        self.hold(codes=codes)
        self.shape, self.complex = shape, complex

    def _spectra(self, x: torch.Tensor) -> torch.Tensor:
        """(B, K, C, H, W)."""
        return torch.fft.fft2(self.codes.unsqueeze(-3) * x.unsqueeze(1), norm="ortho")

    def _back(self, spectra: torch.Tensor) -> torch.Tensor:
        image = (self.codes.conj().unsqueeze(-3) * torch.fft.ifft2(spectra, norm="ortho")).sum(1)
        return image if self.complex else image.real.contiguous()

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._spectra(x).abs().flatten(1, 2)

    def _vjp(self, x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return self._back(v.unflatten(1, (-1, self.shape[0])) * torch.sgn(self._spectra(x)))

    def initial(self, y: torch.Tensor, rng: torch.Generator | None = None) -> torch.Tensor:
        """The leading direction of y²-weighted patterns by 20 power iterations, scaled to the data's energy.

        The spectral start of Candès, Li & Soltanolkotabi (2015, algorithm 1); real images: its real part, up to sign.
        """
        rng = torch.Generator(y.device).manual_seed(0) if rng is None else rng
        x = torch.randn(y.shape[0], *self.shape, dtype=self.in_dtype, device=y.device, generator=rng)
        weight = y.square().unflatten(1, (-1, self.shape[0]))
        for _ in range(20):
            x = self._back(weight * self._spectra(x))
            x = x / x.abs().square().sum((1, 2, 3), keepdim=True).sqrt()
        seen = self._spectra(x).abs().square().sum((1, 2, 3, 4)).sqrt()
        return x * (y.square().sum((1, 2, 3)).sqrt() / seen).reshape(-1, 1, 1, 1)

    @classmethod
    def example(cls) -> Self:
        rng = torch.Generator().manual_seed(0)
        angle = 6.2832 * torch.rand(3, 6, 5, generator=rng)
        return cls(codes=torch.polar(torch.ones_like(angle), angle), shape=(2, 6, 5))
