"""Circular blur."""

from typing import Self

import torch

from pnpkit.errors import ShapeError, SpecError
from pnpkit.linalg import expand
from pnpkit.operators.base import LinearOperator
from pnpkit.operators.gram import Gram
from pnpkit.operators.periodic import otf
from pnpkit.types import Scalar, Shape

LARGEST = 33 * 33  # pixels of a kernel whose normal matrix is formed


def check_kernel(who: str, kernel: torch.Tensor, shape: Shape) -> None:
    """A kernel is real, (1 or C, h, w) or one of those per sample, and fits into the image."""
    if len(shape) != 3:
        raise ShapeError(f"{who}: shape is (C, H, W), given {shape}.")
    if kernel.is_complex() or not kernel.is_floating_point():
        raise SpecError(f"{who}: a kernel is a real floating-point tensor, given {kernel.dtype}.")
    if kernel.ndim not in (3, 4) or kernel.shape[-3] not in (1, shape[0]):
        hint = " Add the channel axis: kernel[None]." if kernel.ndim == 2 else ""
        raise ShapeError(
            f"{who}: kernel must be (1, h, w), ({shape[0]}, h, w) or one of those per sample, given "
            f"{tuple(kernel.shape)}.{hint}"
        )
    if kernel.shape[-2] > shape[1] or kernel.shape[-1] > shape[2]:
        raise ShapeError(f"{who}: the kernel {tuple(kernel.shape[-2:])} is larger than the image {shape[1:]}; crop it.")
    if not bool(kernel.any()):
        raise SpecError(f"{who}: the kernel is zero everywhere.")


class Blur(LinearOperator):
    """Circular convolution with a kernel, by FFT; prox and pseudo-inverse are closed forms.

    Parameters
    ----------
    kernel : (1 or C, h, w), centre at (h//2, w//2), or (B, 1 or C, h, w) for one per sample. Real; any sum.
    shape : image shape (C, H, W).
    complex : whether images are complex.

    A photograph is not periodic: near its borders use ``ValidBlur``.
    """

    theta = {"kernel": 3}
    linear_in = ("kernel",)
    kernel: torch.Tensor

    def __init__(self, kernel: torch.Tensor, shape: Shape, complex: bool = False):
        check_kernel("Blur", kernel, tuple(shape))
        super().__init__(shape, complex_in=complex)
        self.hold(kernel=kernel)
        self.shape, self.complex = tuple(shape), complex

    def diagonal(self) -> Gram:
        return Gram.of("fourier2", otf(self.kernel, self.shape[1:]), rank=3)

    def _spectrum(self, name: str) -> torch.Tensor:
        """The transfer function, its conjugate or its squared modulus: on half the plane for real images."""

        def compute() -> torch.Tensor:
            if name == "otf":
                return otf(self.kernel, self.shape[1:], half=not self.complex)
            d = self._spectrum("otf")
            return d.conj().resolve_conj() if name == "conj" else d.real**2 + d.imag**2

        return self.derived(name, compute)

    def _fft(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.fft2(x) if self.complex else torch.fft.rfft2(x)

    def _image(self, spectrum: torch.Tensor) -> torch.Tensor:
        return torch.fft.ifft2(spectrum) if self.complex else torch.fft.irfft2(spectrum, s=self.shape[1:])

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._image(self._fft(x) * self._spectrum("otf"))

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return self._image(self._fft(y) * self._spectrum("conj"))

    def _normal(self, x: torch.Tensor) -> torch.Tensor:
        return self._image(self._fft(x) * self._spectrum("abs2"))

    def _prox_l2(self, z: torch.Tensor, y: torch.Tensor, tau: Scalar) -> torch.Tensor:
        # (Z + tau·conj(D)·Y) / (1 + tau·|D|²): one transform fewer than from the adjoint.
        t = expand(tau, z)
        data = self._fft(y) * (t * self._spectrum("conj"))
        return self._image((self._fft(z) + data) / (1 + t * self._spectrum("abs2")))

    def _normal_in(self, name: str, x: torch.Tensor) -> torch.Tensor | None:
        """Autocorrelations of x, summed over its channels, at the lags between the pixels of the kernel.

        Exact on the support: cropping the solution of the whole image's system is not (Blind-PnPDM's note, §1.2).
        """
        h, w = self.kernel.shape[-2:]
        if self.complex or (self.kernel.shape[-3] != 1 and x.shape[1] != 1) or h * w > LARGEST:
            return None
        spectrum = torch.fft.rfft2(x.double())
        lags = torch.fft.irfft2((spectrum * spectrum.conj()).sum(1), s=self.shape[1:])  # (B, H, W), even in the lag
        at = torch.cartesian_prod(torch.arange(h, device=x.device), torch.arange(w, device=x.device))
        away = (at[:, None] - at[None]) % torch.tensor(self.shape[1:], device=x.device)
        return lags[:, away[..., 0], away[..., 1]]

    @classmethod
    def example(cls) -> Self:
        rng = torch.Generator().manual_seed(3)
        return cls(kernel=torch.rand(1, 3, 4, generator=rng) / 12, shape=(2, 7, 6))
