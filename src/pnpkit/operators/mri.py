"""Cartesian MRI, single- and multi-coil."""

import math
from collections.abc import Mapping
from typing import Self

import torch

from pnpkit.errors import ShapeError, SpecError
from pnpkit.linalg import expand, inner
from pnpkit.operators.base import LinearOperator
from pnpkit.operators.fourier import AXES, centring, unshift
from pnpkit.operators.gram import Gram
from pnpkit.types import Scalar


class MRI(LinearOperator):
    """y_c = mask · F(maps_c · x): complex images (1, H, W) -> k-space (coils, H, W), 0 where not sampled.

    F is the centred, orthonormal 2-D DFT: the image's centre and the zero frequency are at
    (H // 2, W // 2), as in sigpy and BART (SENSE: Pruessmann et al., MRM 42, 1999). ``rows(idx)`` keeps
    the k-space lines ``idx`` along the second last axis.

    Parameters
    ----------
    mask : (1, H, W), or (B, 1, H, W) for one per sample; 1 where k-space is sampled, 0 elsewhere, values
        in between are weights. Booleans are taken as 0/1.
    maps : complex coil sensitivities (coils, H, W), or (B, coils, H, W) for one set per sample; None for
        one coil of sensitivity 1 everywhere.

    Closed forms: everything for a single coil without maps; prox and pseudo-inverse of any coils under
    a mask that is the same everywhere. Otherwise prox is solved by CG on the fused normal operator.
    """

    mask: torch.Tensor
    maps: torch.Tensor | None

    def __init__(self, mask: torch.Tensor, maps: torch.Tensor | None = None):
        _check_mask(mask)
        if maps is not None:
            _check_maps(maps, mask)
        size = tuple(mask.shape[-2:])
        super().__init__((1, *size), (1 if maps is None else maps.shape[-3], *size), complex_in=True)
        if maps is None:
            self.maps = None
            self.hold(mask=mask)
        else:
            self.hold(mask=mask, maps=maps)

    @property
    def theta(self) -> Mapping[str, int]:  # type: ignore[override]
        return {"mask": 3} if self.maps is None else {"mask": 3, "maps": 3}

    @property
    def linear_in(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(self.theta)

    # --- the map ---
    # In-place products are on arrays made here. Transforms are unscaled: 1/√(HW) is in the weight.

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        image, weight = self.derived("forward", self._centred)
        coils = image * x if self.maps is None else self.maps * (image * x)
        return torch.fft.fft2(coils).mul_(weight)

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        image, weight = self.derived("adjoint", lambda: tuple(t.conj().resolve_conj() for t in self._centred()))
        coils = torch.fft.ifft2(weight * y, norm="forward")
        if self.maps is not None:
            coils = coils.mul_(self.derived("conj", self._conj)).sum(-3, keepdim=True)
        return coils.mul_(image)

    def _centred(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The image's phase, and the scaled mask with that of k-space: centred transforms without shifts."""
        image, kspace = centring(self.in_shape, self.dtype, self.device)
        return image, self.mask * (kspace / math.sqrt(kspace.numel()))

    def _conj(self) -> torch.Tensor:
        assert self.maps is not None
        return self.maps.conj().resolve_conj()

    # --- A^H A ---

    def _normal(self, x: torch.Tensor) -> torch.Tensor:
        if (g := self.gram()) is not None:
            return g.apply(x)
        rows, axes, weight, maps, conj = self.derived("normal", self._fused)
        k = torch.fft.fftn(maps * (x.mT.contiguous() if rows else x), dim=axes).mul_(weight)
        coils = torch.fft.ifftn(k, dim=axes, norm="forward").mul_(conj).sum(-3, keepdim=True)
        return coils.mT.contiguous() if rows else coils

    def _fused(self) -> tuple[bool, tuple[int, ...], torch.Tensor, torch.Tensor, torch.Tensor]:
        """Whether to work on transposed images, axes to transform, scaled mask², maps and their conjugate.

        The centring cancels in A^H A, and so does the transform along an axis in which the mask is
        constant (fully sampled lines); the axis that is left comes last, contiguous in memory.
        """
        weight, maps, conj = unshift(self.mask.square()), self.maps, self._conj()
        assert maps is not None
        rows = self._constant(weight, -1)
        if rows:
            weight, maps, conj = (t.mT.contiguous() for t in (weight, maps, conj))
        axes = (-1,) if rows or self._constant(weight, -2) else AXES
        weight = weight / math.prod(weight.shape[a] for a in axes)
        return rows, axes, weight.to(maps.dtype), maps, conj

    def _constant(self, weight: torch.Tensor, axis: int) -> bool:
        """Whether mask² is the same along an axis; never when its entries need separate gradients."""
        return not self.mask.requires_grad and bool((weight == weight.narrow(axis, 0, 1)).all())

    def _norm(self) -> torch.Tensor:
        """max mask · max √Σ|maps|² bounds ‖A‖, and is taken when a smooth image comes within 1% of it.

        It does wherever the centre of k-space is sampled; the start Σ conj(maps) is the image that all coils
        see as a smooth one. Otherwise by power iteration.
        """
        if self.maps is None or self.gram() is not None:
            return super()._norm()
        with torch.no_grad():
            power = self.maps.abs().square().sum(-3, keepdim=True)
            bound = self.mask.square().flatten(-3).amax(-1) * power.flatten(-3).amax(-1)
            v = self.maps.conj().sum(-3, keepdim=True).reshape(-1, *self.in_shape)
            v = v.expand(self.batch or 1, *self.in_shape)
            for _ in range(5):
                w = self._normal(v)
                if bool((inner(v, w) >= 0.98 * bound * inner(v, v)).all()):
                    return bound.sqrt()
                v = w
        return super()._norm()

    # --- structure ---

    def _pull(self, g: Gram) -> Gram | None:
        if g.basis not in ("scalar", "pixel"):
            return None
        weight = self.mask.square() if self.mask.ndim == 4 else self.mask.square()[None]
        if self.maps is None:
            return Gram("fourier2", unshift(weight * g.values))
        if g.basis == "scalar" and self._constant(weight, -1) and self._constant(weight, -2):
            power = self.maps.abs().square().sum(-3, keepdim=True)
            return Gram("pixel", weight[..., :1, :1] * g.values * (power if power.ndim == 4 else power[None]))
        return None

    def _push(self, g: Gram) -> Gram | None:
        if self.maps is not None:
            return None
        weight = self.mask.square() if self.mask.ndim == 4 else self.mask.square()[None]
        if g.basis == "scalar":
            return Gram("pixel", weight * g.values)
        if g.basis == "fourier2":
            return Gram("pixel", weight * torch.fft.fftshift(g.values, dim=AXES))
        return None

    def _prox_l2(self, z: torch.Tensor, y: torch.Tensor, tau: Scalar) -> torch.Tensor:
        if self.maps is not None:
            return super()._prox_l2(z, y, tau)
        image, weight = self.derived("forward", self._centred)
        t = expand(tau, z)
        k = torch.fft.fft2(image * z, norm="forward") + t * (weight.conj() * y)
        k = k / (1 + t * self.mask.square())
        return torch.fft.ifft2(k, norm="forward").mul_(image.conj())

    @classmethod
    def example(cls) -> Self:
        rng = torch.Generator().manual_seed(0)
        mask = (torch.rand(1, 6, 5, generator=rng) > 0.4).float()
        maps = torch.randn(3, 6, 5, dtype=torch.complex64, generator=rng)
        return cls(mask=mask, maps=maps)


def _check_mask(mask: torch.Tensor) -> None:
    if mask.ndim not in (3, 4) or mask.shape[-3] != 1:
        raise ShapeError(f"MRI: mask must be (1, H, W), or (B, 1, H, W) for one per sample; given {tuple(mask.shape)}.")
    if mask.is_complex():
        raise SpecError("MRI: a mask is real, given a complex one; use mask.abs().")
    if bool((mask < 0).any()):
        raise SpecError("MRI: a mask has values ≥ 0, given negative ones.")
    if not bool(mask.flatten(-3).any(-1).all()):
        raise SpecError("MRI: the mask is zero everywhere (in some sample), so nothing is measured.")


def _check_maps(maps: torch.Tensor, mask: torch.Tensor) -> None:
    if maps.ndim not in (3, 4) or maps.shape[-2:] != mask.shape[-2:]:
        raise ShapeError(
            f"MRI: maps must be (coils, H, W), or (B, coils, H, W) for one set per sample, with the mask's H and W "
            f"{tuple(mask.shape[-2:])}; given {tuple(maps.shape)}."
        )
    if maps.ndim == mask.ndim == 4 and len(maps) != len(mask):
        raise ShapeError(
            f"MRI: per-sample mask and maps disagree on the batch: {len(mask)} masks, {len(maps)} sets of maps."
        )
    if not maps.is_complex():
        raise SpecError(f"MRI: maps are complex coil sensitivities, given {maps.dtype}; use maps.to(torch.complex64).")
    if not bool(maps.abs().flatten(-3).any(-1).all()):
        raise SpecError("MRI: the coil maps are zero everywhere (in some sample), so nothing is measured.")
