"""Blur and decimation in one."""

from collections.abc import Callable
from typing import Self

import torch
from torch.nn.functional import conv2d, conv_transpose2d, pad

from pnpkit.linalg import expand
from pnpkit.operators.base import LinearOperator
from pnpkit.operators.blur import check_kernel
from pnpkit.operators.decimation import check_factor
from pnpkit.operators.gram import Gram
from pnpkit.operators.periodic import fold, fold_half, otf, tile, tile_half, wrap
from pnpkit.types import Scalar, Shape

Convolution = Callable[..., torch.Tensor]
DIRECT_TAPS = 121  # largest kernel (h·w) for which strided convolution was measured faster than the FFT


class SuperResolution(LinearOperator):
    """Circular blur, then every ``factor``-th pixel: (C, H, W) -> (C, H/factor, W/factor).

    Equals ``Decimation @ Blur`` but computes only the pixels that are kept: by strided convolution for small
    kernels, else by FFT with the spectrum folded to the coarse grid. The prox is exact: A A^H is circulant on the
    coarse grid, so Sherman–Morrison–Woodbury gives it by FFT (Zhao et al., IEEE TIP 25(8), 2016).

    Parameters
    ----------
    kernel : as in ``Blur``.
    factor : integer ≥ 1 that divides H and W.
    shape : shape of the fine image (C, H, W).
    complex : whether images are complex.
    """

    theta = {"kernel": 3}
    linear_in = ("kernel",)
    kernel: torch.Tensor

    def __init__(self, kernel: torch.Tensor, factor: int, shape: Shape, complex: bool = False):
        shape = tuple(shape)
        check_factor("SuperResolution", factor, shape)
        check_kernel("SuperResolution", kernel, shape)
        super().__init__(shape, (shape[0], shape[1] // factor, shape[2] // factor), complex)
        self.hold(kernel=kernel)
        self.factor, self.shape, self.complex = factor, shape, complex

    # --- by convolution, for small kernels ---

    @property
    def _direct(self) -> bool:
        return not self.complex and self.kernel.shape[-2] * self.kernel.shape[-1] <= DIRECT_TAPS

    def _filters(self) -> torch.Tensor:
        """(C or B·C, 1, h, w), flipped: torch's conv2d correlates."""
        *lead, _, h, w = self.kernel.shape
        return self.kernel.flip(-2, -1).expand(*lead, self.shape[0], h, w).reshape(-1, 1, h, w)

    def _strided(self, convolution: Convolution, x: torch.Tensor) -> torch.Tensor:
        """Each channel with its kernel; with kernels per sample, B·C channels of one image."""
        filters = self.derived("filters", self._filters)
        grouped = x if self.kernel.ndim == 3 else x.flatten(0, 1)[None]
        y = convolution(grouped, filters, stride=self.factor, groups=filters.shape[0])
        return y if self.kernel.ndim == 3 else y.unflatten(1, (x.shape[0], -1))[0]

    def _convolve(self, x: torch.Tensor) -> torch.Tensor:
        (h, w), (_, height, width) = self.kernel.shape[-2:], self.out_shape
        right, bottom = (max(n // 2 - (self.factor - 1), 0) for n in (w, h))
        wide = pad(x, ((w - 1) // 2, right, (h - 1) // 2, bottom), mode="circular")
        return self._strided(conv2d, wide)[..., :height, :width]

    def _convolve_back(self, y: torch.Tensor) -> torch.Tensor:
        (h, w), size = self.kernel.shape[-2:], self.shape[1:]
        return wrap(self._strided(conv_transpose2d, y), ((h - 1) // 2, (w - 1) // 2), size)

    # --- by FFT ---

    def _fft(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.fft2(x) if self.complex else torch.fft.rfft2(x)

    def _image(self, spectrum: torch.Tensor, shape: Shape) -> torch.Tensor:
        return torch.fft.ifft2(spectrum) if self.complex else torch.fft.irfft2(spectrum, s=shape[1:])

    def _otf(self) -> torch.Tensor:
        return self.derived("otf", lambda: otf(self.kernel, self.shape[1:], half=not self.complex))

    def _down(self, fine: torch.Tensor) -> torch.Tensor:
        """Spectrum of A x from that of x."""
        blurred = fine * self._otf()
        return fold(blurred, self.factor) if self.complex else fold_half(blurred, self.factor, self.shape[2])

    def _up(self, coarse: torch.Tensor) -> torch.Tensor:
        """Spectrum of A^H y from that of y."""
        rows = tile(coarse, self.factor) if self.complex else tile_half(coarse, self.factor, self.shape[2])
        conj = self.derived("conj", lambda: self._otf().conj().resolve_conj().unflatten(-2, (self.factor, -1)))
        return (rows.unsqueeze(-3) * conj).flatten(-3, -2)

    # --- the operator ---

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._convolve(x) if self._direct else self._image(self._down(self._fft(x)), self.out_shape)

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return self._convolve_back(y) if self._direct else self._image(self._up(self._fft(y)), self.shape)

    def _normal(self, x: torch.Tensor) -> torch.Tensor:
        if self._direct:
            return super()._normal(x)
        return self._image(self._up(self._down(self._fft(x))), self.shape)

    def _push(self, g: Gram) -> Gram | None:
        if g.basis not in ("scalar", "fourier2"):
            return None
        d = otf(self.kernel, self.shape[1:])
        return Gram.of("fourier2", fold((d.real**2 + d.imag**2) * g.values, self.factor), rank=3)

    def _pull(self, g: Gram) -> Gram | None:
        return None

    def _prox_l2(self, z: torch.Tensor, y: torch.Tensor, tau: Scalar) -> torch.Tensor:
        # Woodbury with the residual: z + tau·A^H (I + tau·A A^H)^-1 (y − A z).
        cogram = self.cogram()
        assert cogram is not None
        t, direct = expand(tau, y), self._direct
        residual = self._fft(y - self._convolve(z)) if direct else self._fft(y) - self._down(self._fft(z))
        residual = residual * (t / (1 + t * cogram.values[..., : residual.shape[-1]]))
        if direct:
            return z + self._convolve_back(self._image(residual, self.out_shape))
        return z + self._image(self._up(residual), self.shape)

    @classmethod
    def example(cls) -> Self:
        rng = torch.Generator().manual_seed(5)
        return cls(kernel=torch.rand(1, 3, 4, generator=rng) / 12, factor=2, shape=(2, 8, 6))
