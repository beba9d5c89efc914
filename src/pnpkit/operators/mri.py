"""Cartesian MRI, single- and multi-coil."""

import math
from collections.abc import Mapping
from typing import Self

import torch

from pnpkit.errors import ShapeError, SpecError
from pnpkit.linalg import expand
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
        image, weight, _ = self.derived("centred", self._centred)
        coils = image * x if self.maps is None else self.maps * (image * x)
        return torch.fft.fft2(coils).mul_(weight)

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        image, _, weight = self.derived("centred", self._centred)
        coils = torch.fft.ifft2(weight * y, norm="forward")
        if self.maps is not None:
            coils = coils.mul_(self.derived("conj", self._conj)).sum(-3, keepdim=True)
        return coils.mul_(image.conj())

    def _centred(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Image phase, scaled mask with the k-space phase, and its conjugate: transforms without shifts."""
        image, kspace = centring(self.in_shape, self.dtype, self.device)
        weight = self.mask * (kspace / math.sqrt(kspace.numel()))
        return image, weight, weight.conj().resolve_conj()

    def _conj(self) -> torch.Tensor:
        assert self.maps is not None
        return self.maps.conj().resolve_conj()

    # --- A^H A ---

    def _normal(self, x: torch.Tensor) -> torch.Tensor:
        if (g := self.gram()) is not None:
            return g.apply(x)
        axes, weight, maps, conj = self.derived("normal", self._fused)
        k = torch.fft.fftn(maps * _like_layout(x, axes), dim=axes).mul_(weight)
        coils = torch.fft.ifftn(k, dim=axes, norm="forward").mul_(conj)
        return coils.sum(-3, keepdim=True).contiguous()

    def _fused(self) -> tuple[tuple[int, ...], torch.Tensor, torch.Tensor, torch.Tensor]:
        """Axes to transform, scaled mask² in the order of ``torch.fft``, maps and their conjugate.

        The centring cancels in A^H A, and so does the transform along an axis in which the mask is
        constant (fully sampled lines). Maps are laid out with the transformed axis contiguous.
        """
        weight, axes = unshift(self.mask.square()), AXES
        if not self.mask.requires_grad:
            for axis, other in ((-1, -2), (-2, -1)):
                first = weight.narrow(axis, 0, 1)
                if bool((weight == first).all()):
                    weight, axes = first, (other,)
                    break
        assert self.maps is not None
        scale = math.prod(self.in_shape[a] for a in axes)
        return axes, weight / scale, _like_layout(self.maps, axes), _like_layout(self._conj(), axes)

    # --- structure ---

    def _pull(self, g: Gram) -> Gram | None:
        if g.basis not in ("scalar", "pixel"):
            return None
        weight = self.mask.square() if self.mask.ndim == 4 else self.mask.square()[None]
        if self.maps is None:
            return Gram("fourier2", unshift(weight * g.values))
        if g.basis == "scalar" and (level := self._level(weight)) is not None:
            power = self.maps.abs().square().sum(-3, keepdim=True)
            return Gram("pixel", level * g.values * (power if power.ndim == 4 else power[None]))
        return None

    def _level(self, weight: torch.Tensor) -> torch.Tensor | None:
        """The value (1|B, 1, 1, 1) of a mask that is the same everywhere, else None."""
        if self.mask.requires_grad:  # its entries must stay separate
            return None
        level = weight[..., :1, :1]
        return level if bool((weight == level).all()) else None

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
        image, _, weight = self.derived("centred", self._centred)
        t = expand(tau, z)
        k = torch.fft.fft2(image * z, norm="forward") + t * (weight * y)
        k = k / (1 + t * self.mask.square())
        return torch.fft.ifft2(k, norm="forward").mul_(image.conj())

    @classmethod
    def example(cls) -> Self:
        rng = torch.Generator().manual_seed(0)
        mask = (torch.rand(1, 6, 5, generator=rng) > 0.4).float()
        maps = torch.randn(3, 6, 5, dtype=torch.complex64, generator=rng)
        return cls(mask=mask, maps=maps)


def _like_layout(t: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    """t with axis −2 contiguous in memory when that is the only one transformed."""
    return t.mT.contiguous().mT if axes == (-2,) else t.contiguous()


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
