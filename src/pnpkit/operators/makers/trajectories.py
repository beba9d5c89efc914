"""k-space trajectories (M, d) in cycles per field of view, and their density compensation."""

import math
from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field, PositiveFloat, PositiveInt

from pnpkit.errors import ShapeError, SpecError
from pnpkit.operators.makers import validated
from pnpkit.operators.nufft import Finufft
from pnpkit.types import Shape

GOLDEN = math.pi * (math.sqrt(5) - 1) / 2  # 111.246°


@validated
def view_angles(views: PositiveInt, span_deg: float = 180.0, first_deg: float = 0.0) -> torch.Tensor:
    """(views,) angles in radians of a CT scan: evenly spaced over ``span_deg``, its end not included.

    span_deg : 180 for a parallel beam, 360 for a fan; less is a limited-angle scan.
    """
    if not 0 < abs(span_deg) <= 360:
        raise SpecError(f"view_angles: span_deg lies within 360, given {span_deg:g}.")
    return torch.deg2rad(first_deg + span_deg * torch.arange(views) / views)


@validated
def radial_trajectory(
    shape: Shape, spokes: PositiveInt, samples: Annotated[int, Field(ge=2)], golden: bool = True
) -> torch.Tensor:
    """(spokes·samples, 2): diameters through the centre from −N/2 on, spoke by spoke.

    shape : (H, W) of the images. golden : turned by the golden angle each (Winkelmann et al., IEEE TMI 26(1), 2007),
        else by π/spokes.
    """
    _two(shape, "radial_trajectory")
    radius = (torch.arange(samples, dtype=torch.float64) - samples // 2) / samples
    angle = torch.arange(spokes, dtype=torch.float64) * (GOLDEN if golden else math.pi / spokes)
    directions = torch.stack([angle.sin() * shape[0], angle.cos() * shape[1]], -1)
    return (directions[:, None] * radius[:, None]).reshape(-1, 2).float()


@validated
def spiral_trajectory(
    shape: Shape, interleaves: PositiveInt, samples: PositiveInt, turns: PositiveFloat, density: PositiveFloat = 1.0
) -> torch.Tensor:
    """(interleaves·samples, 2): Archimedean spirals from the centre outwards, turned by 2π/interleaves each.

    shape : (H, W). turns : of each spiral. density : the radius grows as time^density: above 1 the centre is sampled
        more densely.
    """
    _two(shape, "spiral_trajectory")
    time = torch.arange(samples, dtype=torch.float64) / samples
    start = 2 * math.pi * torch.arange(interleaves, dtype=torch.float64)[:, None] / interleaves
    angle, radius = start + 2 * math.pi * turns * time**density, 0.5 * time**density
    return torch.stack([radius * angle.sin() * shape[0], radius * angle.cos() * shape[1]], -1).reshape(-1, 2).float()


@validated
def radial_trajectory_3d(shape: Shape, spokes: PositiveInt, samples: Annotated[int, Field(ge=2)]) -> torch.Tensor:
    """(spokes·samples, 3): diameters in directions spread evenly over the half sphere (a Fibonacci spiral).

    shape : (D, H, W).
    """
    if len(shape) != 3:
        raise ShapeError(f"radial_trajectory_3d: shape is (D, H, W), given {tuple(shape)}.")
    i = torch.arange(spokes, dtype=torch.float64) + 0.5
    height, angle = i / spokes, 2 * GOLDEN * i
    level = (1 - height**2).sqrt()
    directions = torch.stack([height * shape[0], level * angle.sin() * shape[1], level * angle.cos() * shape[2]], -1)
    radius = (torch.arange(samples, dtype=torch.float64) - samples // 2) / samples
    return (directions[:, None] * radius[:, None]).reshape(-1, 3).float()


def density_compensation(trajectory: torch.Tensor, shape: Shape, n_iter: int = 30) -> torch.Tensor:
    """Weights (M,) with which Fᴴ diag(w) F is nearly the identity, so that A.adjoint(w·y) is a first image.

    Pipe & Menon (MRM 41, 1999), w ← w/(G w), with the kernel of Johnson & Pipe (MRM 61, 2009): G weighs two points by
    the transform of the field of view's autocorrelation, approximated by a tent along each axis. Scaled so that smooth
    images keep their size.

    trajectory : (M, d) in cycles per field of view. shape : (H, W) or (D, H, W).
    """
    if trajectory.ndim != 2 or trajectory.shape[1] != len(shape):
        raise ShapeError(
            f"density_compensation: trajectory (M, {len(shape)}) for {tuple(shape)}, given {tuple(trajectory.shape)}."
        )
    double = Finufft(2 * trajectory, tuple(2 * n for n in shape), 1e-6, torch.complex128)
    tent = _separable(lambda u: 1 - u.abs() / 2, tuple(2 * n for n in shape), shape)
    w = torch.ones(1, len(trajectory), dtype=torch.complex128)
    for _ in range(n_iter):
        w = w / double.forward(tent * double.adjoint(w)).real.clamp_min(1e-30)
    single = Finufft(trajectory, tuple(shape), 1e-6, torch.complex128)
    blob = _separable(lambda u: torch.exp(-0.5 * (6 * u) ** 2), tuple(shape), shape)[None].to(torch.complex128)
    seen = single.forward(blob)
    gain = (w.real * seen.abs() ** 2).sum() / (math.prod(shape) * blob.abs().square().sum())
    return (w[0].real / gain).to(trajectory.dtype)


def _separable(function: Callable[[torch.Tensor], torch.Tensor], size: Shape, field: Shape) -> torch.Tensor:
    """Π_d function(u_d) on a grid of ``size`` around its centre, u in units of half the field of view."""
    product = torch.ones((), dtype=torch.float64)
    for n, extent in zip(size, field, strict=True):
        u = (torch.arange(n, dtype=torch.float64) - n // 2) / (extent / 2)
        product = product[..., None] * function(u)
    return product


def _two(shape: Shape, who: str) -> None:
    if len(shape) != 2:
        raise ShapeError(f"{who}: shape is (H, W), given {tuple(shape)}.")
