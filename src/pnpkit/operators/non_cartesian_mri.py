"""Non-Cartesian MRI in two or three dimensions, single- and multi-coil."""

import math
from collections.abc import Mapping
from typing import Annotated, Self

import torch
from pydantic import Field

from pnpkit.errors import ShapeError, SpecError
from pnpkit.operators.base import LinearOperator
from pnpkit.operators.nufft import Engine, Nufft, Transform, grids, toeplitz_spectrum, transform
from pnpkit.types import Shape


class NonCartesianMRI(LinearOperator):
    """y_c = F(maps_c·x) at the points of a trajectory: complex images (1, H, W) or (1, D, H, W) -> (coils, M).

    F is scaled by 1/√(pixels): on the points of the Cartesian grid it is the unitary, centred DFT of ``MRI``.
    AᴴA is a convolution and is computed as one (``nufft.toeplitz_spectrum``), exact whatever ``eps``; solvers use it
    by themselves. Gradients reach the image, the maps and the trajectory.

    Parameters
    ----------
    trajectory : (M, 2 or 3), or (B, M, 2 or 3) for one per sample, in cycles per field of view, axis by axis as the
        image's (rows first): the Cartesian grid is the integers from −⌊N/2⌋. sigpy's and BART's unit.
    shape : image shape (1, H, W) or (1, D, H, W).
    maps : complex coil sensitivities (coils, *size), or one set per sample; None for one coil.
    eps : relative accuracy of F and its adjoint with "finufft"; float32 images go through float64 below 2e-5.
    engine : "finufft", or "torchkbnufft", which is slower and 7e-4 accurate but runs on any torch device.
    """

    row_axis = -1
    trajectory: torch.Tensor
    maps: torch.Tensor | None

    def __init__(
        self,
        trajectory: torch.Tensor,
        shape: Shape,
        maps: torch.Tensor | None = None,
        eps: Annotated[float, Field(gt=0, lt=0.1)] = 1e-4,
        engine: Engine = "finufft",
    ):
        shape = tuple(shape)
        _check_trajectory(trajectory, shape)
        if maps is not None:
            _check_maps(maps, shape)
        coils = 1 if maps is None else maps.shape[-len(shape)]
        super().__init__(shape, (coils, trajectory.shape[-2]), complex_in=True)
        if maps is None:
            self.maps = None
            self.hold(trajectory=trajectory)
        else:
            self.hold(trajectory=trajectory, maps=maps)
        self.shape, self.eps = shape, eps
        self.engine: Engine = engine

    @property
    def theta(self) -> Mapping[str, int]:  # type: ignore[override]
        rank = len(self.in_shape)
        return {"trajectory": 2} if self.maps is None else {"trajectory": 2, "maps": rank}

    @property
    def linear_in(self) -> tuple[str, ...]:  # type: ignore[override]
        return () if self.maps is None else ("maps",)

    # --- F ---

    def _points(self, sample: int) -> torch.Tensor:
        return self.trajectory if self.trajectory.ndim == 2 else self.trajectory[sample]

    def _engine(self, sample: int):
        """What makes the transform of a sample's points; kept with its plans while the trajectory stays."""

        def make(points: torch.Tensor) -> Transform:
            return transform(self.engine, points, self.shape[1:], self.eps, self.in_dtype)

        shared = 0 if self.trajectory.ndim == 2 else sample
        return lambda points: self.derived(f"transform {shared}", lambda: make(points))

    def _transformed(self, z: torch.Tensor, adjoint: bool) -> torch.Tensor:
        """F or Fᴴ of (B, coils, …), sample by sample: memory is that of one."""
        scale = 1 / math.sqrt(math.prod(self.shape[1:]))
        axes = self.derived("grids", lambda: grids(self.shape[1:], self.in_dtype, self.device))
        parts = [Nufft.apply(scale * s, self._points(b), self._engine(b), axes, adjoint) for b, s in enumerate(z)]
        return torch.stack(parts)  # type: ignore[arg-type]

    # --- A ---

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._transformed(x if self.maps is None else self.maps * x, adjoint=False)

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        coils = self._transformed(y, adjoint=True)
        return coils if self.maps is None else (self.maps.conj() * coils).sum(1, keepdim=True)

    def _spectrum(self) -> torch.Tensor:
        """(1 or B, 1, 2N, …): that of FᴴF/pixels."""

        def compute() -> torch.Tensor:
            size = self.shape[1:]
            points = self.trajectory[None] if self.trajectory.ndim == 2 else self.trajectory
            spectra = torch.stack([toeplitz_spectrum(p, size) for p in points])[:, None]
            return (spectra / math.prod(size)).to(self.device, self.dtype)

        return self.derived("toeplitz", compute)

    def _normal(self, x: torch.Tensor) -> torch.Tensor:
        if self.trajectory.requires_grad:
            return self._adjoint(self._forward(x))
        if self.maps is None:
            return self._convolved(x).contiguous()
        if len(self.shape) == 3:
            return (self.maps.conj() * self._convolved(self.maps * x)).sum(1, keepdim=True)
        total = torch.zeros_like(x)  # volumes: coil by coil, in the memory of one
        for maps in self.maps.split(1, dim=-len(self.shape)):
            total = total + maps.conj() * self._convolved(maps * x)
        return total

    def _convolved(self, z: torch.Tensor) -> torch.Tensor:
        """FᴴF on a grid twice as large, where it is a circular convolution."""
        size, axes = self.shape[1:], tuple(range(1 - len(self.shape), 0))
        spectrum = torch.fft.fftn(z, s=[2 * n for n in size], dim=axes) * self._spectrum()
        return torch.fft.ifftn(spectrum, dim=axes)[(..., *(slice(n) for n in size))]

    def example_theta(self, rng: torch.Generator) -> dict[str, torch.Tensor]:
        """Points moved by up to a quarter of a cycle towards the centre."""
        found = super().example_theta(rng)
        found["trajectory"] = self.trajectory * (1 - 0.2 * torch.rand(self.trajectory.shape, generator=rng)).to(
            self.trajectory
        )
        return found

    @classmethod
    def example(cls) -> Self:
        rng = torch.Generator().manual_seed(0)
        trajectory = (torch.rand(50, 2, generator=rng) - 0.5) * torch.tensor([6.0, 5.0])
        maps = torch.randn(2, 6, 5, dtype=torch.complex64, generator=rng)
        return cls(trajectory=trajectory, shape=(1, 6, 5), maps=maps, eps=1e-12)


def _check_trajectory(trajectory: torch.Tensor, shape: Shape) -> None:
    d = len(shape) - 1
    if d not in (2, 3) or shape[0] != 1 or trajectory.ndim not in (2, 3) or trajectory.shape[-1] != d:
        raise ShapeError(
            f"NonCartesianMRI: trajectory is (M, 2) for images (1, H, W), or (M, 3) for (1, D, H, W); given "
            f"{tuple(trajectory.shape)} for {shape}."
        )
    if not trajectory.is_floating_point():
        raise SpecError(f"NonCartesianMRI: a trajectory is real and floating-point, given {trajectory.dtype}.")
    if not bool(torch.isfinite(trajectory).all()):
        raise SpecError("NonCartesianMRI: the trajectory contains NaN or Inf.")
    half = torch.tensor([n / 2 for n in shape[1:]], dtype=trajectory.dtype, device=trajectory.device)
    reach = (trajectory.abs() / half).amax()
    if not bool(reach <= 1 + 1e-4):
        raise SpecError(
            f"NonCartesianMRI: the trajectory reaches {float(reach):.3g} times the grid's edge N/2; it is in cycles "
            "per field of view (radians per pixel times N/2π). Use a larger shape, or leave points out."
        )


def _check_maps(maps: torch.Tensor, shape: Shape) -> None:
    if maps.ndim not in (len(shape), len(shape) + 1) or tuple(maps.shape[1 - len(shape) :]) != shape[1:]:
        raise ShapeError(f"NonCartesianMRI: maps are (coils, *{shape[1:]}), given {tuple(maps.shape)}.")
    if not maps.is_complex():
        raise SpecError(f"NonCartesianMRI: maps are complex, given {maps.dtype}; use maps.to(torch.complex64).")
