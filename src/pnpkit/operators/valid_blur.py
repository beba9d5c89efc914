"""Blur of a real photograph: only pixels whose whole neighbourhood was seen."""

from typing import Self

import torch
from torch.nn.functional import pad

from pnpkit.operators.base import LinearOperator
from pnpkit.operators.blur import check_kernel
from pnpkit.types import Shape


class ValidBlur(LinearOperator):
    """Convolution without assumptions outside the image: (C, H, W) -> (C, H − h + 1, W − w + 1).

    Parameters are those of ``Blur``. By FFT on a fast size, so the cost does not depend on the kernel (on CPU a
    convolution is faster below about 7×7 and ten times slower at 25×25); prox and pseudo-inverse are iterative.
    """

    theta = {"kernel": 3}
    linear_in = ("kernel",)
    kernel: torch.Tensor

    def __init__(self, kernel: torch.Tensor, shape: Shape, complex: bool = False):
        check_kernel("ValidBlur", kernel, tuple(shape))
        (c, height, width), (h, w) = shape, kernel.shape[-2:]
        super().__init__(shape, (c, height - h + 1, width - w + 1), complex)
        self.hold(kernel=kernel)
        self.shape, self.complex = tuple(shape), complex
        self._fft_size = (fast_size(height), fast_size(width))

    def _spectrum(self) -> torch.Tensor:
        transform = torch.fft.fft2 if self.complex else torch.fft.rfft2
        return self.derived("spectrum", lambda: transform(self.kernel, s=self._fft_size))

    def _filter(self, x: torch.Tensor, spectrum: torch.Tensor) -> torch.Tensor:
        if self.complex:
            return torch.fft.ifft2(torch.fft.fft2(x, s=self._fft_size) * spectrum)
        return torch.fft.irfft2(torch.fft.rfft2(x, s=self._fft_size) * spectrum, s=self._fft_size)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        h, w = self.kernel.shape[-2:]  # the FFT wraps only into the part that is cut away
        return self._filter(x, self._spectrum())[..., h - 1 : self.shape[1], w - 1 : self.shape[2]]

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        h, w = self.kernel.shape[-2:]
        padded = pad(y, (w - 1, 0, h - 1, 0))
        spectrum = self.derived("conj", lambda: self._spectrum().conj().resolve_conj())
        return self._filter(padded, spectrum)[..., : self.shape[1], : self.shape[2]]

    @classmethod
    def example(cls) -> Self:
        rng = torch.Generator().manual_seed(4)
        return cls(kernel=torch.rand(1, 3, 2, generator=rng) / 6, shape=(2, 7, 6))


def fast_size(n: int) -> int:
    """The smallest even size ≥ n with no prime factor above 5: odd ones and larger factors measured up to 2× slower."""
    n += n % 2
    while _without(n, (2, 3, 5)) > 1:
        n += 2
    return n


def _without(n: int, primes: tuple[int, ...]) -> int:
    for prime in primes:
        while n % prime == 0:
            n //= prime
    return n
