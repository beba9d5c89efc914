"""Computed tomography: parallel and fan beams onto a flat detector."""

import math
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt

from pnpkit.errors import ShapeError, SpecError
from pnpkit.operators.base import LinearOperator
from pnpkit.operators.joseph import CHUNKS, kernels
from pnpkit.types import Shape

Window = Literal["ram-lak", "shepp-logan", "cosine", "hamming", "hann"]


class CT(LinearOperator):
    """Line integrals of an image along the rays of a scan: (C, H, W) -> (C, views, detectors).

    View v looks from (sin θ, −cos θ) towards the axis, x to the right and y upwards, onto a detector whose bins lie
    along (cos θ, sin θ): ASTRA's convention. A parallel beam when the distances are None, else a fan from a source at
    ``source_to_axis`` onto a flat detector at ``source_to_detector``. Interpolation by Joseph's method, the adjoint is
    exact, gradients reach the image, the angles and the offset. The integrals are in units of x times ``pixel``.

    Parameters
    ----------
    angles : (V,) radians, or (B, V) for one set per sample.
    shape : image shape (C, H, W); the axis of rotation is at its centre.
    detectors : number of bins.
    pitch : of the bins, and ``pixel``, the side of an image pixel, in one unit of length.
    offset : (1,), by how much the detector is shifted along its bins, in that unit; None for 0.
    source_to_axis, source_to_detector : both or none, in that unit.
    """

    theta = {"angles": 1, "offset": 1}
    row_axis = -2
    angles: torch.Tensor
    offset: torch.Tensor

    def __init__(
        self,
        angles: torch.Tensor,
        shape: Shape,
        detectors: PositiveInt,
        pitch: PositiveFloat = 1.0,
        pixel: PositiveFloat = 1.0,
        offset: torch.Tensor | None = None,
        source_to_axis: PositiveFloat | None = None,
        source_to_detector: PositiveFloat | None = None,
    ):
        shape = tuple(shape)
        if len(shape) != 3 or angles.ndim not in (1, 2) or not angles.is_floating_point():
            raise ShapeError(
                f"CT: angles are (V,) radians, floating-point, for images (C, H, W); given {tuple(angles.shape)} "
                f"{angles.dtype} and {shape}."
            )
        if (source_to_axis is None) != (source_to_detector is None):
            raise SpecError("CT: give both source_to_axis and source_to_detector for a fan beam, or neither.")
        if source_to_axis is not None and source_to_detector is not None:
            radius = 0.5 * pixel * math.hypot(shape[1], shape[2])
            if source_to_detector < source_to_axis or source_to_axis <= radius:
                raise SpecError(
                    f"CT: the source must be outside the image (source_to_axis > {radius:.4g}) and the detector behind "
                    f"the axis; given {source_to_axis} and {source_to_detector}."
                )
        if offset is not None and (offset.ndim not in (1, 2) or offset.shape[-1] != 1):
            raise ShapeError(f"CT: offset is (1,), or (B, 1) for one per sample; given {tuple(offset.shape)}.")
        super().__init__(shape, (shape[0], angles.shape[-1], detectors))
        self.hold(angles=angles, offset=torch.zeros(1, dtype=angles.dtype) if offset is None else offset)
        self.shape, self.detectors, self.pitch, self.pixel = shape, detectors, pitch, pixel
        self.source_to_axis, self.source_to_detector = source_to_axis, source_to_detector

    # --- geometry ---

    def _rays(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """b, m and whether a ray runs along columns (``joseph``), each (V, D) or (B, V, D); in float64."""
        angles, offset = self.angles.double(), self.offset.double()
        bins = torch.arange(self.detectors, dtype=torch.float64, device=self.device) - (self.detectors - 1) / 2
        place = bins * self.pitch + offset[..., None, :]  # (…, 1, D) along the detector
        cos, sin = angles.cos()[..., None], angles.sin()[..., None]
        if self.source_to_axis is None or self.source_to_detector is None:
            point, direction = (place * cos, place * sin), (sin, -cos)
        else:
            source = (self.source_to_axis * sin, -self.source_to_axis * cos)
            behind = self.source_to_detector - self.source_to_axis
            bin_ = (-behind * sin + place * cos, behind * cos + place * sin)
            point, direction = source, (bin_[0] - source[0], bin_[1] - source[1])
        (_, height, width), p = self.shape, self.pixel
        column, row = point[0] / p + (width - 1) / 2, -point[1] / p + (height - 1) / 2
        along, across = direction[0], -direction[1]
        columns = along.abs() >= across.abs()
        slope = torch.where(columns, across, along) / torch.where(columns, along, across)
        base = torch.where(columns, row - column * slope, column - row * slope)
        return torch.broadcast_tensors(base, slope, columns)  # type: ignore[return-value]

    def _sets(self) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Rays of each sample, (V·D,) each; one set when all samples share them."""
        rays = self.derived("rays", self._rays)
        if rays[0].ndim == 2:
            return [tuple(t.reshape(-1) for t in rays)]  # type: ignore[list-item]
        return [tuple(t[i].reshape(-1) for t in rays) for i in range(rays[0].shape[0])]  # type: ignore[misc]

    def _each(self, x: torch.Tensor, event: Shape, adjoint: bool) -> torch.Tensor:
        flat = x.reshape(x.shape[0], x.shape[1], -1) if adjoint else x
        sets = self._sets()
        groups = [flat.flatten(0, 1)] if len(sets) == 1 else list(flat)
        parts = [Rays.apply(g, *rays, self.shape[1:], adjoint) for g, rays in zip(groups, sets, strict=True)]
        return (self.pixel * torch.cat(parts)).reshape(x.shape[0], *event)  # type: ignore[arg-type]

    # --- the operator ---

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._each(x, self.out_shape, adjoint=False)

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return self._each(y, self.in_shape, adjoint=True)

    def rows(self, idx: torch.Tensor) -> "CT":  # type: ignore[override]
        """The views ``idx`` only."""
        new = self._with(["angles"], self.angles.index_select(-1, idx))
        new.out_shape = (self.shape[0], len(idx), self.detectors)
        return new

    def initial(self, y: torch.Tensor, rng: torch.Generator | None = None) -> torch.Tensor:
        """Filtered back-projection."""
        return self.fbp(y)

    def fbp(self, y: torch.Tensor, window: Window = "ram-lak", cutoff: Annotated[float, Field(gt=0, le=1)] = 1.0):
        """Filtered back-projection (B, *in_shape): the ramp filter times a window, then the adjoint.

        Kak & Slaney (1988), §3.3 and §3.4.2 (flat fan: weighted by R/√(R² + t²) before; the distance weight of the
        back-projection is taken as the adjoint's own, which is exact for a parallel beam and approximate for a fan).
        Views are taken as evenly spread over the arc that they cover; what goes beyond a half turn counts twice.
        cutoff : of the bins' Nyquist frequency.
        """
        self._check(y, self.out_shape, self.out_dtype, "y")
        pitch = self.pitch
        if self.source_to_axis is not None and self.source_to_detector is not None:
            pitch = self.pitch * self.source_to_axis / self.source_to_detector
            place = (torch.arange(self.detectors, device=y.device) - (self.detectors - 1) / 2) * pitch
            y = y * (self.source_to_axis / torch.sqrt(self.source_to_axis**2 + place**2)).to(y.dtype)
        n = 2 ** math.ceil(math.log2(2 * self.detectors))
        response = ramp(n, window, cutoff).to(y.device, y.dtype) / pitch
        filtered = torch.fft.irfft(torch.fft.rfft(y, n) * response, n)[..., : self.detectors]
        scale = (self._spacing() * (pitch / self.pixel**2)).to(filtered.dtype)
        return self._adjoint(scale.reshape(-1, 1, 1, 1) * filtered)

    def _spacing(self) -> torch.Tensor:
        """Radians of a half turn that each view stands for, () or (B,)."""
        views = self.angles.shape[-1]
        if views == 1:
            return torch.full(self.angles.shape[:-1], math.pi, device=self.device)
        around = (self.angles.double() % (2 * math.pi)).sort(-1).values
        around = torch.cat([around, around[..., :1] + 2 * math.pi], -1)
        step = (2 * math.pi - around.diff(dim=-1).amax(-1)) / (views - 1)  # the widest gap is what is not covered
        return step / (step * views / math.pi).clamp_min(1)

    @classmethod
    def example(cls) -> Self:
        angles = torch.linspace(0.1, 3.0, 7)
        return cls(
            angles=angles, shape=(1, 6, 5), detectors=9, pitch=1.1, offset=torch.tensor([0.13]),
            source_to_axis=12.0, source_to_detector=15.0,
        )  # fmt: skip


def ramp(n: int, window: str, cutoff: float) -> torch.Tensor:
    """Half-spectrum (n/2 + 1,) of the band-limited ramp for unit spacing, windowed (Kak & Slaney, eq. 61)."""
    k = torch.cat([torch.arange(n // 2 + 1), torch.arange(-n // 2 + 1, 0)]).double()
    h = torch.where(k % 2 == 1, -1 / (math.pi * torch.where(k == 0, 1.0, k)) ** 2, 0.0)
    h[0] = 0.25
    response = torch.fft.rfft(h).real
    f = torch.linspace(0, 1, n // 2 + 1, dtype=torch.float64) / cutoff
    shapes = {
        "ram-lak": torch.ones_like(f),
        "shepp-logan": torch.sinc(f / 2),
        "cosine": torch.cos(math.pi / 2 * f),
        "hamming": 0.54 + 0.46 * torch.cos(math.pi * f),
        "hann": 0.5 + 0.5 * torch.cos(math.pi * f),
    }
    return response * torch.where(f <= 1, shapes[window], 0.0)


class Rays(torch.autograd.Function):
    """Projection of images (N, H, W) along rays (R,) or its adjoint, with gradients in images and rays."""

    @staticmethod
    def forward(x: torch.Tensor, b: Any, m: Any, columns: Any, size: Shape, adjoint: bool) -> torch.Tensor:  # type: ignore[override]
        project, backproject, _ = kernels()
        values = _array(x)
        rays = _array(b), _array(m), _array(columns)
        if adjoint:
            partial = np.zeros((min(CHUNKS, max(1, len(rays[0]))), len(values), *size), dtype=values.dtype)
            backproject(values, *rays, partial)
            out = partial.sum(0)
        else:
            out = np.empty((len(values), len(rays[0])), dtype=values.dtype)
            project(values, *rays, out)
        return torch.from_numpy(out).to(x.device)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, b, m, columns, ctx.size, ctx.is_adjoint = inputs
        ctx.save_for_backward(x, b, m, columns)

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor):  # type: ignore[override]
        x, b, m, columns = ctx.saved_tensors
        in_x = in_b = in_m = None
        if ctx.needs_input_grad[0]:
            in_x = Rays.apply(g.contiguous(), b, m, columns, ctx.size, not ctx.is_adjoint)
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            images, values = (g, x) if ctx.is_adjoint else (x, g)
            in_b, in_m = (
                (values * d).sum(0).to(b.dtype) for d in Derivatives.apply(images.contiguous(), b, m, columns)
            )  # type: ignore[union-attr]
        return in_x, in_b, in_m, None, None, None


class Derivatives(torch.autograd.Function):
    """∂(projection)/∂b and ∂/∂m of images (N, H, W), (N, R) each; itself not differentiable."""

    @staticmethod
    def forward(images: torch.Tensor, b: Any, m: Any, columns: Any):  # type: ignore[override]
        values = _array(images)
        in_b, in_m = (np.empty((len(values), len(b)), dtype=values.dtype) for _ in range(2))
        kernels()[2](values, _array(b), _array(m), _array(columns), in_b, in_m)
        return torch.from_numpy(in_b).to(images.device), torch.from_numpy(in_m).to(images.device)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *_: Any):  # type: ignore[override]
        raise SpecError("CT: second derivatives in angles or offset are not there.")


def _array(t: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(t.detach().cpu().numpy())
