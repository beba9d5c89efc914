"""Blur and decimation in one strided convolution."""

from typing import Self

import torch
from torch.nn.functional import conv2d, conv_transpose2d, pad

from pnpkit.linalg import expand
from pnpkit.operators.base import LinearOperator
from pnpkit.operators.blur import check_kernel
from pnpkit.operators.decimation import check_factor
from pnpkit.operators.gram import Gram
from pnpkit.operators.periodic import fold, otf, wrap
from pnpkit.types import Scalar, Shape


class SuperResolution(LinearOperator):
    """Circular blur, then every ``factor``-th pixel: (C, H, W) -> (C, H/factor, W/factor).

    Equals ``Decimation @ Blur`` but computes only the pixels that are kept. The prox is exact: A A^H is circulant
    on the coarse grid, so Sherman–Morrison–Woodbury gives it by FFT (Zhao et al., TIP 2016, eq. 12).

    Parameters
    ----------
    kernel : as in ``Blur``.
    factor : integer ≥ 1 that divides H and W.
    shape : shape of the fine image (C, H, W).
    complex : whether images are complex.
    """

    theta = {"kernel": 3}
    linear_in = ("kernel",)

    def __init__(self, kernel: torch.Tensor, factor: int, shape: Shape, complex: bool = False):
        shape = tuple(shape)
        check_factor("SuperResolution", factor, shape)
        check_kernel("SuperResolution", kernel, shape)
        super().__init__(shape, (shape[0], shape[1] // factor, shape[2] // factor), complex)
        self.hold(kernel=kernel)
        self.factor, self.shape, self.complex = factor, shape, complex

    def _filters(self, channels: int) -> torch.Tensor:
        """(channels, 1, h, w), flipped: torch's conv2d correlates."""
        flipped = self.kernel.flip(-2, -1)
        kernels = flipped.expand(*flipped.shape[:-3], self.shape[0], *flipped.shape[-2:]).reshape(-1, 1, *flipped.shape[-2:])
        return kernels.repeat(channels // kernels.shape[0], 1, 1, 1)

    def _margins(self) -> tuple[int, int, int, int]:
        """Circular padding (left, right, top, bottom) for outputs at pixels 0, factor, 2·factor, …."""
        h, w = self.kernel.shape[-2:]
        bottom, right = h // 2 - (self.factor - 1), w // 2 - (self.factor - 1)
        return w - 1 - w // 2, max(right, 0), h - 1 - h // 2, max(bottom, 0)

    def _real(self, x: torch.Tensor) -> torch.Tensor:
        """Complex images as real and imaginary samples; a convolution acts on each."""
        return torch.view_as_real(x).movedim(-1, 0).flatten(0, 1) if self.complex else x

    def _back(self, x: torch.Tensor) -> torch.Tensor:
        return torch.complex(*x.unflatten(0, (2, -1)).unbind(0)) if self.complex else x

    def _grouped(self, x: torch.Tensor) -> tuple[torch.Tensor, int]:
        """(1, B·C, …) and B·C where kernels differ between samples, else (B, C, …) and C."""
        if self.kernel.ndim == 4:
            return x.flatten(0, 1)[None], x.shape[0] * x.shape[1]
        return x, x.shape[1]

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        flat, groups = self._grouped(pad(self._real(x), self._margins(), mode="circular"))
        y = conv2d(flat, self._filters(groups), stride=self.factor, groups=groups)
        height, width = self.out_shape[1:]
        return self._back(y[..., :height, :width].reshape(-1, *self.out_shape))

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        flat, groups = self._grouped(self._real(y))
        wide = conv_transpose2d(flat, self._filters(groups), stride=self.factor, groups=groups)
        left, _, top, _ = self._margins()
        return self._back(wrap(wide, (top, left), self.shape[1:]).reshape(-1, *self.shape))

    def _push(self, g: Gram) -> Gram | None:
        if g.basis not in ("scalar", "fourier2"):
            return None
        d = otf(self.kernel, self.shape[1:])
        values = (d.real**2 + d.imag**2) * g.values
        return Gram.of("fourier2", fold(values, self.factor), rank=3)

    def _pull(self, g: Gram) -> Gram | None:
        return None

    def _prox_l2(self, z: torch.Tensor, y: torch.Tensor, tau: Scalar) -> torch.Tensor:
        # Woodbury with the residual: z + tau·A^H (I + tau·A A^H)^-1 (y − A z).
        cogram = self.cogram()
        assert cogram is not None
        r = y - self._forward(z)
        return z + self._adjoint(expand(tau, r) * cogram.solve(r, tau))

    @classmethod
    def example(cls) -> Self:
        rng = torch.Generator().manual_seed(5)
        return cls(kernel=torch.rand(1, 3, 4, generator=rng) / 12, factor=2, shape=(2, 8, 6))

