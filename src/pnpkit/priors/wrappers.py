"""Denoisers around denoisers: other value ranges, unit sums, complex and large images, means over symmetries."""

from dataclasses import replace
from typing import Annotated, Self

import torch
from pydantic import Field, PositiveInt

from pnpkit.errors import ShapeError, SpecError
from pnpkit.priors.base import Denoiser, Domain
from pnpkit.priors.gaussian_mixture import GaussianMixture


class Rescale(Denoiser):
    """D(x, sigma) = (D'(a·x + b, a·sigma) − b)/a, with a and b mapping [low, high] onto the inner denoiser's range.

    ``Rescale(denoiser=adm, inner=(-1, 1))`` gives a network of images in [-1, 1] images in [0, 1]; sigma is doubled.

    outer, inner : the two ranges of values.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        inner: tuple[float, float] = (-1.0, 1.0),
        outer: tuple[float, float] = (0.0, 1.0),
    ):
        super().__init__()
        if not (inner[0] < inner[1] and outer[0] < outer[1]):
            raise SpecError(f"Rescale: ranges are (low, high) with low < high, given inner {inner}, outer {outer}.")
        self.denoiser, self.inner, self.outer = denoiser, inner, outer
        self.slope = (inner[1] - inner[0]) / (outer[1] - outer[0])
        self.offset = inner[0] - self.slope * outer[0]
        low, high = denoiser.domain.sigma_range
        self.domain = replace(denoiser.domain, sigma_range=(low / self.slope, high / self.slope), value_range=outer)

    def _denoise(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        low, high = self.denoiser.domain.sigma_range
        inside = self.denoiser(self.slope * x + self.offset, (self.slope * sigma).clamp(low, high))
        return (inside - self.offset) / self.slope

    @property
    def example_shape(self) -> tuple[int, ...]:
        return self.denoiser.example_shape

    def gaussian_model(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        model = self.denoiser.gaussian_model()
        return None if model is None else ((model[0] - self.offset) / self.slope, model[1] / self.slope**2)

    @classmethod
    def example(cls) -> Self:
        return cls(denoiser=GaussianMixture.example())


class UnitSum(Denoiser):
    """What a denoiser gives, divided by its sum over height and width, channel by channel: for blur kernels.

    In blind deblurring k·c and x/c explain the same data. A learned prior of kernels knows their sum only about, and
    chains of ``BlindPnPDM`` drift along c. A sum of zero makes the sample infinite, which ``solve`` reports.

    denoiser : of real kernels (C, h, w); ShapeError for complex ones.
    """

    def __init__(self, denoiser: Denoiser):
        super().__init__()
        self.denoiser, self.domain = denoiser, denoiser.domain
        if denoiser.domain.dtype.is_complex:
            raise ShapeError(f"UnitSum is for kernels of real numbers, the denoiser takes {denoiser.domain.dtype}.")

    def _denoise(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return self.allowed(self.denoiser(x, sigma))

    def allowed(self, x: torch.Tensor) -> torch.Tensor:
        return x / x.sum((-2, -1), keepdim=True)

    @property
    def example_shape(self) -> tuple[int, ...]:
        return self.denoiser.example_shape

    @classmethod
    def example(cls) -> Self:
        flat = torch.full((1, 1, 3, 4), 1 / 12)
        return cls(denoiser=GaussianMixture(means=flat, covariances=0.05**2 * torch.eye(12)[None]))


class ComplexAsReal(Denoiser):
    """Complex images (C, H, W) through a denoiser of 2C real channels: all real parts, then all imaginary ones."""

    def __init__(self, denoiser: Denoiser):
        super().__init__()
        inner = denoiser.domain
        if inner.dtype.is_complex or inner.shape is None or inner.shape[0] is None or inner.shape[0] % 2:
            raise ShapeError(
                f"ComplexAsReal needs a real denoiser of an even number of channels, given {inner.shape} {inner.dtype}."
            )
        self.denoiser = denoiser
        shape = (inner.shape[0] // 2, *inner.shape[1:])
        self.domain = Domain(shape, inner.dtype.to_complex(), inner.sigma_range)

    def _denoise(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return torch.complex(*self.denoiser(torch.cat([x.real, x.imag], 1), sigma).chunk(2, 1))

    @property
    def example_shape(self) -> tuple[int, ...]:
        channels, *rest = self.denoiser.example_shape
        return (channels // 2, *rest)

    @classmethod
    def example(cls) -> Self:
        rng = torch.Generator().manual_seed(0)
        means = torch.rand(2, 2, 3, 4, generator=rng)
        return cls(denoiser=GaussianMixture(means=means, covariances=0.5 * torch.eye(24).repeat(2, 1, 1)))


class Tiled(Denoiser):
    """Images larger than memory or than a network takes: overlapping tiles, blended with weights falling to the edge.

    Exact up to what lies further than ``overlap`` away from a pixel. Images smaller than a tile go through whole.

    tile, overlap : in pixels, of height and width. batch : tiles at a time.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        tile: Annotated[int, Field(ge=8)] = 256,
        overlap: PositiveInt = 32,
        batch: PositiveInt = 4,
    ):
        super().__init__()
        if 2 * overlap >= tile:
            raise SpecError(f"Tiled: two overlaps must fit into a tile, given overlap {overlap} and tile {tile}.")
        self.denoiser, self.tile, self.overlap, self.batch = denoiser, tile, overlap, batch
        shape = denoiser.domain.shape
        if shape is not None and any(n is not None and n != tile for n in shape[-2:]):
            raise ShapeError(f"Tiled: the denoiser takes images {shape}, the tiles are {tile}×{tile}.")
        self.domain = replace(denoiser.domain, shape=None if shape is None else (*shape[:-2], None, None))

    def _denoise(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        if height <= self.tile and width <= self.tile:
            return self.denoiser(x, sigma)
        h, w = min(height, self.tile), min(width, self.tile)
        corners = [(i, j) for i in self._starts(height) for j in self._starts(width)]
        window = self._ramp(h, height)[:, None] * self._ramp(w, width)
        window = window.to(x.real.dtype).to(x.device)
        total, weight = torch.zeros_like(x), torch.zeros(height, width, dtype=window.dtype, device=x.device)
        for first in range(0, len(corners), self.batch):
            some = corners[first : first + self.batch]
            tiles = torch.cat([x[..., i : i + h, j : j + w] for i, j in some])
            clean = self.denoiser(tiles, sigma.repeat(len(some)))
            for (i, j), part in zip(some, clean.split(len(x)), strict=True):
                total[..., i : i + h, j : j + w] += window * part
                weight[i : i + h, j : j + w] += window
        return total / weight

    def _starts(self, n: int) -> list[int]:
        """Where tiles begin along an axis of n pixels; the last one ends with it."""
        if n <= self.tile:
            return [0]
        stride = self.tile - self.overlap
        return [*range(0, n - self.tile, stride), n - self.tile]

    def _ramp(self, n: int, whole: int) -> torch.Tensor:
        """Weights along a tile: 1 in the middle, falling linearly over the overlap."""
        if whole <= self.tile:
            return torch.ones(n, dtype=torch.float64)
        edge = (torch.arange(n, dtype=torch.float64) + 1) / (self.overlap + 1)
        return torch.minimum(edge, edge.flip(0)).clamp(max=1)

    @property
    def example_shape(self) -> tuple[int, ...]:
        return (*self.denoiser.example_shape[:-2], 24, 20)

    @classmethod
    def example(cls) -> Self:
        from pnpkit.priors.unet import UNetDenoiser

        return cls(denoiser=UNetDenoiser.example(), tile=16, overlap=4)


class SelfEnsemble(Denoiser):
    """The mean over the symmetries of the square: x turned and mirrored, denoised, turned back. 8 calls, or 4 of them.

    Squares only in the sense of symmetry: height and width may differ where the denoiser takes any size.
    """

    def __init__(self, denoiser: Denoiser, mirrored: bool = True):
        super().__init__()
        self.denoiser, self.mirrored = denoiser, mirrored
        self.domain = denoiser.domain
        shape = denoiser.domain.shape
        if shape is not None and shape[-1] != shape[-2]:
            raise ShapeError(f"SelfEnsemble turns images, the denoiser takes {shape} only.")

    def _denoise(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        total = torch.zeros_like(x)
        for quarter in range(4):
            for flipped in (False, True) if self.mirrored else (False,):
                turned = torch.rot90(x.flip(-1) if flipped else x, quarter, (-2, -1))
                back = torch.rot90(self.denoiser(turned, sigma), -quarter, (-2, -1))
                total = total + (back.flip(-1) if flipped else back)
        return total / (8 if self.mirrored else 4)

    @property
    def example_shape(self) -> tuple[int, ...]:
        return self.denoiser.example_shape

    @classmethod
    def example(cls) -> Self:
        from pnpkit.priors.unet import UNetDenoiser

        return cls(denoiser=UNetDenoiser.example())
