"""Training samples: crops of a pool of images, every one drawn from its own seed."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from pnpkit.errors import DataError
from pnpkit.training.sources import Kernels, Source


class Pool:
    """All images of some sources in memory, and random crops of them.

    Sample ``i`` of seed ``s`` is the same whatever the batch size, the number of processes and where a run resumed.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        channels: int,
        crop: int,
        augment: bool = True,
        phase: bool = False,
        strict: bool = False,
        contrast: float = 0.0,
    ):
        self.crop, self.augment, self.phase, self.channels, self.contrast = crop, augment, phase, channels, contrast
        self.makers = [s for s in sources if isinstance(s, Kernels)]
        self.images: list[np.ndarray] = []
        self.skipped: list[str] = []
        for source in sources:
            images, skipped = source.arrays(channels, strict)
            self.images += images
            self.skipped += skipped
        self._leave_out_small(strict)
        if not self.images and not self.makers:
            reasons = f" {len(self.skipped)} files were left out, the first: {self.skipped[0]}" if self.skipped else ""
            raise DataError(f"The training data hold no image of at least {crop}×{crop}.{reasons}")
        areas = np.array([a.shape[-2] * a.shape[-1] for a in self.images], dtype=np.float64)
        self.cumulative = torch.from_numpy(np.cumsum(areas / areas.sum())) if self.images else None

    def _leave_out_small(self, strict: bool) -> None:
        small = [a.shape for a in self.images if min(a.shape[-2:]) < self.crop]
        if small and strict:
            raise DataError(
                f"{len(small)} images are smaller than the crop of {self.crop}, the first {small[0]}; "
                "use a smaller crop."
            )
        self.images = [a for a in self.images if min(a.shape[-2:]) >= self.crop]
        self.skipped += [f"an image {s} is smaller than the crop of {self.crop}" for s in small]

    def sample(self, seed: int, i: int) -> tuple[torch.Tensor, torch.Generator]:
        """One clean crop (C, crop, crop), and the generator to go on drawing from (its noise)."""
        rng = torch.Generator().manual_seed((seed * 1_000_000_007 + i) % 2**63)
        x = self._made(rng) if self.makers else self._cropped(rng)
        if self.augment:
            x = turned(x, int(torch.randint(8, (1,), generator=rng)))
        if self.contrast and float(torch.rand(1, generator=rng)) < self.contrast:
            x = with_contrast(x, rng)
        if self.phase:
            x = with_phase(x, rng)
        return torch.cat([x.real, x.imag]) if x.is_complex() else x, rng

    def _made(self, rng: torch.Generator) -> torch.Tensor:
        return self.makers[int(torch.randint(len(self.makers), (1,), generator=rng))].draw(rng)

    def _cropped(self, rng: torch.Generator) -> torch.Tensor:
        assert self.cumulative is not None
        at = torch.rand(1, generator=rng, dtype=torch.float64)
        image = self.images[min(int(torch.searchsorted(self.cumulative, at)), len(self.images) - 1)]
        top, left = (int(torch.randint(n - self.crop + 1, (1,), generator=rng)) for n in image.shape[-2:])
        x = torch.from_numpy(image[:, top : top + self.crop, left : left + self.crop])
        return x.float() / 255 if x.dtype == torch.uint8 else x

    def centres(self, n: int, size: int) -> torch.Tensor:
        """Central crops of ``n`` images spread over the pool, or ``n`` samples where images are made: (n, C, h, w)."""
        if self.makers:
            return torch.stack([self.sample(1, i)[0] for i in range(n)])
        chosen = [self.images[i] for i in np.linspace(0, len(self.images) - 1, min(n, len(self.images))).astype(int)]
        side = min([size, *(min(a.shape[-2:]) for a in chosen)])
        crops = []
        for i, a in enumerate(chosen):
            top, left = ((m - side) // 2 for m in a.shape[-2:])
            x = torch.from_numpy(a[:, top : top + side, left : left + side])
            x = x.float() / 255 if x.dtype == torch.uint8 else x
            x = with_phase(x, torch.Generator().manual_seed(i)) if self.phase else x
            crops.append(torch.cat([x.real, x.imag]) if x.is_complex() else x)
        return torch.stack(crops)


def turned(x: torch.Tensor, which: int) -> torch.Tensor:
    """One of the eight symmetries of the square."""
    x = torch.rot90(x, which % 4, (-2, -1))
    return x.flip(-1) if which >= 4 else x


def with_contrast(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """The magnitude through a random piecewise linear curve with f(0) = 0, as if the tissues relaxed otherwise.

    The curve need not rise: T1- and T2-weighted images order the tissues differently. A reconstruction of the random
    intensities of SynthSeg (Billot et al., Medical Image Analysis 2023) for images without labels.
    """
    knots = np.linspace(0, 1, 6)
    values = np.append(0, 0.05 + 0.95 * torch.rand(5, generator=rng).numpy())
    before = x.abs()
    after = torch.from_numpy(np.interp(before.numpy(), knots, values).astype(np.float32))
    return x * (after / before.clamp(min=1e-12))


def with_phase(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """x·exp(iφ): φ a random constant plus a smooth random field of a few cycles, as coils and inhomogeneity leave."""
    cells = int(torch.randint(2, 6, (1,), generator=rng))
    strength = torch.rand(1, generator=rng) * 1.5
    field = torch.randn(1, 1, cells, cells, generator=rng) * strength
    smooth = functional.interpolate(field, size=x.shape[-2:], mode="bicubic", align_corners=True)[0]
    constant = 2 * torch.pi * torch.rand(1, generator=rng)
    return x * torch.polar(torch.ones_like(smooth), smooth + constant)
