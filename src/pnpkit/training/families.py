"""Families of operators to train on: every sample draws its own operator from its own seed."""

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from pnpkit.operators import MRI, Blur, Identity, Inpainting, SuperResolution
from pnpkit.operators.base import LinearOperator
from pnpkit.operators.makers.coils import random_coil_maps
from pnpkit.operators.makers.kernels import anisotropic_gaussian_kernel, motion_kernel
from pnpkit.operators.makers.masks import line_mask, random_mask
from pnpkit.types import Shape

Drawn = dict[str, torch.Tensor | int]
Range = tuple[float, float]


class Family(BaseModel):
    """One kind of operator with random parameters.

    share : how often it is drawn, relative to the others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float = Field(default=1.0, gt=0)
    grouped_by: ClassVar[tuple[str, ...]] = ()  # drawn numbers that samples of one operator must share

    def draw(self, shape: Shape, rng: torch.Generator) -> Drawn:
        """Parameters of one sample's operator."""
        raise NotImplementedError

    def operator(self, drawn: Sequence[Drawn], shape: Shape) -> LinearOperator:
        """One operator for several samples, with one parameter each."""
        raise NotImplementedError


class Denoising(Family):
    """Noise only."""

    kind: Literal["denoising"] = "denoising"

    def draw(self, shape: Shape, rng: torch.Generator) -> Drawn:
        return {}

    def operator(self, drawn: Sequence[Drawn], shape: Shape) -> LinearOperator:
        return Identity(shape=shape)


class Masks(Family):
    """Missing pixels: a share of them anywhere, or, with probability ``boxes``, one box of ``box`` of each side."""

    kind: Literal["inpainting"] = "inpainting"
    keep: Range = (0.1, 0.9)
    boxes: float = 0.25
    box: Range = (0.15, 0.45)

    def draw(self, shape: Shape, rng: torch.Generator) -> Drawn:
        which, *u = uniform(5, rng)
        if which >= self.boxes:
            keep = between(self.keep, u[0])
            return {"mask": random_mask((1, *shape[1:]), keep, seed=integer(rng))}
        mask = torch.ones(1, *shape[1:])
        sides = [max(1, round(between(self.box, v) * n)) for v, n in zip(u, shape[1:], strict=False)]
        top, left = (int(v * (n - side + 1)) for v, n, side in zip(u[2:], shape[1:], sides, strict=True))
        mask[:, top : top + sides[0], left : left + sides[1]] = 0
        return {"mask": mask}

    def operator(self, drawn: Sequence[Drawn], shape: Shape) -> LinearOperator:
        return Inpainting(mask=stacked(drawn, "mask"), shape=shape)


class Kernels(Family):
    """Gaussian kernels of standard deviations ``std``, along two axes of any direction, and ``motion`` paths."""

    size: PositiveInt = 25
    std: Range = (0.5, 3.5)
    motion: float = 0.5

    def kernel(self, rng: torch.Generator) -> torch.Tensor:
        which, a, b, c = uniform(4, rng)
        if which < self.motion:
            size = 1 + 2 * int((0.15 + 0.35 * a) * self.size)
            path, before = motion_kernel(size=size, seed=integer(rng), roughness=0.2 + b), self.size // 2 - size // 2
            kernel = torch.zeros(1, self.size, self.size)
            kernel[:, before : before + size, before : before + size] = path
            return kernel
        return anisotropic_gaussian_kernel(self.size, between(self.std, a), between(self.std, b), angle_deg=180 * c)


class Blurs(Kernels):
    """Circular blurs."""

    kind: Literal["blur"] = "blur"

    def draw(self, shape: Shape, rng: torch.Generator) -> Drawn:
        return {"kernel": self.kernel(rng)}

    def operator(self, drawn: Sequence[Drawn], shape: Shape) -> LinearOperator:
        return Blur(kernel=stacked(drawn, "kernel"), shape=shape)


class SuperResolutions(Kernels):
    """Blur, then every ``factors``-th pixel."""

    kind: Literal["super_resolution"] = "super_resolution"
    factors: tuple[PositiveInt, ...] = (2, 4)
    motion: float = 0.0
    std: Range = (0.7, 2.5)
    grouped_by = ("factor",)

    def draw(self, shape: Shape, rng: torch.Generator) -> Drawn:
        factor = self.factors[int(torch.randint(len(self.factors), (1,), generator=rng))]
        return {"factor": factor, "kernel": self.kernel(rng)}

    def operator(self, drawn: Sequence[Drawn], shape: Shape) -> LinearOperator:
        return SuperResolution(kernel=stacked(drawn, "kernel"), factor=int(drawn[0]["factor"]), shape=shape)


class CartesianMRI(Family):
    """Multi-coil Cartesian MRI: random or evenly spaced lines along either axis, or a variable-density plane.

    accelerations : R, drawn with equal chance. calib : lines at the centre, as a share of all.
    coils : number of simulated coils (``makers.random_coil_maps``).
    """

    kind: Literal["mri"] = "mri"
    accelerations: tuple[float, ...] = (2, 4, 6, 8)
    calib: float = 0.06
    coils: PositiveInt = 4
    planes: float = 0.3

    def draw(self, shape: Shape, rng: torch.Generator) -> Drawn:
        r = self.accelerations[int(torch.randint(len(self.accelerations), (1,), generator=rng))]
        which, pattern, axis = uniform(3, rng)
        size, seed = (1, *shape[1:]), integer(rng)
        if which < self.planes:
            mask = plane_mask(size, r, self.calib, rng)
        else:
            along: Literal[-2, -1] = -2 if axis < 0.5 else -1
            calib = max(2, round(self.calib * size[along]))
            name: Literal["random", "gaussian", "uniform"] = ("random", "gaussian", "uniform")[int(3 * pattern)]
            mask = line_mask(size, r, calib, seed, name, along)
        return {"mask": mask, "maps": random_coil_maps((self.coils, *shape[1:]), seed)}

    def operator(self, drawn: Sequence[Drawn], shape: Shape) -> LinearOperator:
        operator = MRI(mask=stacked(drawn, "mask"), maps=stacked(drawn, "maps"))
        return operator.with_cg(tol=1e-3, max_iter=200)


AnyFamily = Annotated[Denoising | Masks | Blurs | SuperResolutions | CartesianMRI, Field(discriminator="kind")]


def plane_mask(shape: Shape, r: float, calib: float, rng: torch.Generator) -> torch.Tensor:
    """Points of a k-space kept with a chance that falls away from its centre, about n/r of them, and the centre."""
    axes = [torch.linspace(-1, 1, n) for n in shape[-2:]]
    distance = (axes[0][:, None] ** 2 + axes[1] ** 2).sqrt()
    chance = (1 - distance / math.sqrt(2)) ** 3
    chance = chance * (chance.numel() / r / chance.sum())
    mask = (torch.rand(shape, generator=rng) < chance).float()
    return torch.where(distance < calib, torch.ones_like(mask), mask)


def stacked(drawn: Sequence[Drawn], name: str) -> torch.Tensor:
    return torch.stack([d[name] for d in drawn])  # type: ignore[misc]


def uniform(n: int, rng: torch.Generator) -> list[float]:
    return torch.rand(n, generator=rng, dtype=torch.float64).tolist()


def integer(rng: torch.Generator) -> int:
    return int(torch.randint(2**31, (1,), generator=rng))


def between(ends: Range, u: float) -> float:
    return ends[0] + u * (ends[1] - ends[0])


def log_between(ends: Range, u: float) -> float:
    return ends[0] * (ends[1] / ends[0]) ** u


def chosen(families: Sequence[Family], u: float) -> int:
    """Which of the families u in [0, 1) falls to, by their shares."""
    reach = torch.tensor([f.share for f in families], dtype=torch.float64).cumsum(0)
    return int(torch.searchsorted(reach, u * reach[-1], right=True).clamp(max=len(families) - 1))
