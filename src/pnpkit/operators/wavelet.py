"""Orthonormal wavelets."""

import functools
from typing import Annotated, Self

import torch
from pydantic import Field
from torch.nn import functional

from pnpkit.errors import ShapeError, SpecError
from pnpkit.operators.base import LinearOperator
from pnpkit.operators.gram import Gram
from pnpkit.types import Shape

CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


class Wavelet(LinearOperator):
    """Periodised orthonormal wavelet transform over all axes but the first: (C, …) -> coefficients (C, …).

    Mallat's pyramid layout: the coarse image in the corner, details around it. W^H W = I always. Sizes that
    2^levels does not divide are embedded into the next multiple with zeros; then W W^H is a projection.

    Parameters
    ----------
    shape : image shape (C, W), (C, H, W) or (C, D, H, W).
    wavelet : an orthogonal wavelet of PyWavelets, e.g. "haar", "db4", "sym8".
    levels : depth; None for as deep as the coarse image keeps the filter's length, 4 at most.
    complex : whether images are complex.
    """

    def __init__(
        self,
        shape: Shape,
        wavelet: str = "db4",
        levels: Annotated[int, Field(ge=1)] | None = None,
        complex: bool = False,
    ):
        shape = tuple(shape)
        if not 2 <= len(shape) <= 4:
            raise ShapeError(f"Wavelet: shape is (C, W), (C, H, W) or (C, D, H, W), given {shape}.")
        length = len(filters(wavelet)[0])
        depth = _depth(shape[1:], length) if levels is None else levels
        block = 2**depth
        padded = tuple(-(-n // block) * block for n in shape[1:])
        if depth < 1 or min(padded) // 2 ** (depth - 1) < max(length - 1, 2):
            raise ShapeError(
                f"Wavelet: {depth} levels of {wavelet} ({length} taps) are too many for an image {shape[1:]}."
            )
        super().__init__(shape, (shape[0], *padded), complex)
        self.shape, self.wavelet, self.levels, self.complex = shape, wavelet, levels, complex
        self.depth = depth

    @property
    def coarse(self) -> tuple[slice, ...]:
        """Index of the coarse image in the last axes of the coefficients."""
        return tuple(slice(0, n // 2**self.depth) for n in self.out_shape[1:])

    def _bank(self) -> torch.Tensor:
        """(2^d, 1, L, …): the separable filters, details where a bit of the index is set."""

        def compute() -> torch.Tensor:
            pair = torch.tensor(filters(self.wavelet), dtype=self.dtype, device=self.device)
            bank = torch.ones([1], dtype=self.dtype, device=self.device)
            for _ in self.shape[1:]:
                bank = torch.einsum("a...,bl->ab...l", bank, pair).flatten(0, 1)
            return bank[:, None]

        return self.derived("bank", compute)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = torch.view_as_real(x.resolve_conj()).movedim(-1, 0).flatten(0, 2) if self.complex else x.flatten(0, 1)
        grown = [(0, p - n) for n, p in zip(self.shape[1:], self.out_shape[1:], strict=True)]
        coarse = functional.pad(flat, [s for pair in reversed(grown) for s in pair])
        out = torch.empty_like(coarse)
        for _ in range(self.depth):
            bands = self._split(coarse)
            size = coarse.shape[1:]
            _fill(out[(slice(None), *(slice(0, n) for n in size))], bands)
            coarse = bands[:, 0]
        out = out.unflatten(0, (-1, self.shape[0]))
        return torch.complex(*out.unflatten(0, (2, -1)).unbind(0)) if self.complex else out

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        flat = torch.view_as_real(y.resolve_conj()).movedim(-1, 0).flatten(0, 2) if self.complex else y.flatten(0, 1)
        coarse = flat[(slice(None), *self.coarse)]
        for level in reversed(range(self.depth)):
            size = [n // 2**level for n in self.out_shape[1:]]
            bands = _bands(flat[(slice(None), *(slice(0, n) for n in size))])
            coarse = self._merge(torch.cat([coarse[:, None], bands[:, 1:]], 1))
        image = coarse[(slice(None), *(slice(0, n) for n in self.shape[1:]))].unflatten(0, (-1, self.shape[0]))
        return torch.complex(*image.unflatten(0, (2, -1)).unbind(0)) if self.complex else image.contiguous()

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        """(N, n…) -> (N, 2^d, n/2…)."""
        bank = self._bank()
        tail = bank.shape[-1] - 2
        padded = functional.pad(x[:, None], [0, tail] * (x.ndim - 1), mode="circular") if tail else x[:, None]
        return CONV[x.ndim - 1](padded, bank, stride=2)

    def _merge(self, bands: torch.Tensor) -> torch.Tensor:
        """(N, 2^d, n/2…) -> (N, n…): samples of each phase (even and odd places) are a convolution of the bands.

        The same as a transposed convolution of stride 2, which is several times slower on a CPU.
        """
        d, phases = bands.ndim - 2, self._phases()
        lead = phases.shape[-1] - 1
        padded = functional.pad(bands, [lead, 0] * d, mode="circular") if lead else bands
        split = CONV[d](padded, phases).unflatten(1, (2,) * d)
        order = [0, *(a for i in range(d) for a in (1 + d + i, 1 + i))]
        return split.permute(order).reshape(len(bands), *(2 * n for n in bands.shape[2:]))

    def _phases(self) -> torch.Tensor:
        """(2^d phases, 2^d bands, L/2, …): tap 2(L/2 − 1 − i) + r of a filter is tap i for phase r."""

        def compute() -> torch.Tensor:
            taps = self._bank()[:, 0]
            for axis in range(1, taps.ndim):  # (band, …, L, …) -> (band, …, L/2, …, r)
                taps = taps.unflatten(axis, (-1, 2)).flip(axis).movedim(axis + 1, -1)
            d = taps.ndim // 2
            return taps.flatten(1 + d).movedim(-1, 0).contiguous()

        return self.derived("phases", compute)

    def _pull(self, g: Gram) -> Gram | None:
        return g if g.basis == "scalar" else None

    def _push(self, g: Gram) -> Gram | None:
        return g if g.basis == "scalar" and self.out_shape == self.in_shape else None

    @classmethod
    def example(cls) -> Self:
        return cls(shape=(2, 8, 10), wavelet="db2", levels=2)


@functools.cache
def filters(wavelet: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(low, high) analysis taps of an orthogonal wavelet."""
    import pywt

    try:
        taps = pywt.Wavelet(wavelet)  # type: ignore[attr-defined]
    except ValueError as error:
        raise SpecError(f"Wavelet: {wavelet!r} is not a wavelet of PyWavelets; e.g. 'haar', 'db4', 'sym8'.") from error
    if not taps.orthogonal:
        raise SpecError(f"Wavelet: {wavelet!r} is not orthogonal; use 'haar', a 'db', 'sym' or 'coif'.")
    return tuple(taps.dec_lo), tuple(taps.dec_hi)


def _depth(size: Shape, length: int) -> int:
    depth = 0
    while depth < 4 and min(size) // 2**depth >= max(length - 1, 2) and min(size) >= 2 ** (depth + 1):
        depth += 1
    return depth


def _fill(out: torch.Tensor, bands: torch.Tensor) -> None:
    """Put (N, 2^d, n/2…) into the pyramid view (N, n…)."""
    for index, corner in _corners(out):
        out[corner] = bands[:, index]


def _bands(pyramid: torch.Tensor) -> torch.Tensor:
    """The inverse of ``_fill``."""
    return torch.stack([pyramid[corner] for _, corner in _corners(pyramid)], 1)


def _corners(pyramid: torch.Tensor):
    d = pyramid.ndim - 1
    for index in range(2**d):
        bits = [(index >> (d - 1 - axis)) & 1 for axis in range(d)]
        half = [n // 2 for n in pyramid.shape[1:]]
        yield (
            index,
            (slice(None), *(slice(h, 2 * h) if bit else slice(0, h) for bit, h in zip(bits, half, strict=True))),
        )
