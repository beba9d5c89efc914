"""deepinv's operators and functions that have names here: a config can say them, and results made with them save."""

from operator import gt
from typing import Any, Self

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from pnpkit.bridges.wrapped import WrappedTensors
from pnpkit.errors import ShapeError, SpecError
from pnpkit.priors.base import Proximable
from pnpkit.types import Shape


class FromPhysics(WrappedTensors):
    """Base: a subclass keeps its parameters as attributes and calls ``_wrap`` in its constructor."""

    def _wrap(self, physics: Any, in_shape: Shape, dtype: torch.dtype = torch.float32) -> None:
        physics.noise_model = torch.nn.Identity()  # noise is not part of an operator
        for name in [n for n, v in vars(physics).items() if getattr(v, "__name__", "") == "<lambda>"]:
            setattr(physics, name, None)  # defaults that A does not use and pickle cannot write
        with torch.no_grad():
            y = physics.A(torch.zeros(1, *in_shape, dtype=dtype))
        complex = dtype.is_complex
        WrappedTensors.__init__(
            self, physics, physics.A, physics.A_adjoint, None, in_shape, tuple(y.shape[1:]), complex, y.is_complex()
        )
        self.requires_grad_(False)


class StructuredRandom(FromPhysics):
    """Random signs and fast sine transforms in turn, cut to ``out_shape``: ``deepinv.physics.StructuredRandom``.

    shape, out_shape : of images and measurements, (C, H, W). layers : of signs and transforms. seed : of the signs.
    """

    def __init__(self, shape: Shape, out_shape: Shape, layers: PositiveInt = 1, seed: NonNegativeInt = 0):
        from deepinv.physics import StructuredRandom as Theirs

        shape, out_shape = tuple(shape), tuple(out_shape)
        if len(shape) != 3 or len(out_shape) != 3 or shape[0] != out_shape[0]:
            raise ShapeError(
                f"StructuredRandom: shapes are (C, H, W) with one C, given {tuple(shape)} and {tuple(out_shape)}."
            )
        rng = torch.Generator().manual_seed(seed)
        self._wrap(Theirs(img_size=shape, output_size=out_shape, n_layers=layers, rng=rng), shape)
        self.shape, self.layers, self.seed = shape, layers, seed

    @classmethod
    def example(cls) -> Self:
        return cls(shape=(1, 6, 6), out_shape=(1, 4, 4))


class SpectralUnmixing(FromPhysics):
    """Abundances of E materials to C spectral bands, pixel by pixel: ``deepinv.physics.HyperSpectralUnmixing``.

    endmembers : (E, C), the materials' spectra. shape : of the abundances, (E, H, W).
    """

    def __init__(self, endmembers: torch.Tensor, shape: Shape):
        from deepinv.physics import HyperSpectralUnmixing

        shape = tuple(shape)
        if endmembers.ndim != 2 or len(shape) != 3 or endmembers.shape[0] != shape[0]:
            raise ShapeError(
                f"SpectralUnmixing: endmembers are (E, C) for abundances (E, H, W), given {tuple(endmembers.shape)} "
                f"for {shape}."
            )
        if not bool(torch.isfinite(endmembers).all()):
            raise SpecError("SpectralUnmixing: the endmembers contain NaN or Inf.")
        self._wrap(HyperSpectralUnmixing(M=endmembers.detach().clone()), shape, endmembers.dtype)
        self.shape = shape

    @property
    def endmembers(self) -> torch.Tensor:
        """(E, C), as they are now: theirs, moved with this operator."""
        owner: Any = self.owner
        return owner.M

    @classmethod
    def example(cls) -> Self:
        return cls(endmembers=torch.rand(3, 5, generator=torch.Generator().manual_seed(0)), shape=(3, 4, 5))


class Ptychography(FromPhysics):
    """Far-field waves behind an illuminated, shifted object, complex: ``deepinv.physics.PtychographyLinearOperator``.

    What a detector sees are their squared magnitudes: ``phase_retrieval`` takes this operator.

    shape : of the object, (1, H, W). probe : (1, h, w) complex or real illumination; None: their disc of radius 10.
    shifts : (N, 2) integers, in pixels; None: their grid of 25.
    """

    def __init__(self, shape: Shape, probe: torch.Tensor | None = None, shifts: torch.Tensor | None = None):
        from deepinv.physics import PtychographyLinearOperator

        shape = tuple(shape)
        if len(shape) != 3 or shape[0] != 1:
            raise ShapeError(f"Ptychography: the object's shape is (1, H, W), given {shape}.")
        if shifts is not None and (shifts.ndim != 2 or shifts.shape[1] != 2 or shifts.is_floating_point()):
            raise SpecError(f"Ptychography: shifts are integers (N, 2), given {tuple(shifts.shape)} {shifts.dtype}.")
        if probe is not None and (probe.ndim != 3 or probe.shape[0] != 1 or any(map(gt, probe.shape, shape))):
            raise ShapeError(
                f"Ptychography: the probe is (1, h, w), not larger than {shape}, given {tuple(probe.shape)}."
            )
        if probe is not None and not bool(torch.isfinite(probe).all()):
            raise SpecError("Ptychography: the probe contains NaN or Inf.")
        self._wrap(PtychographyLinearOperator(img_size=shape, probe=probe, shifts=shifts), shape, torch.complex64)
        self.shape, self.probe, self.shifts = shape, probe, shifts

    @classmethod
    def example(cls) -> Self:
        shifts = torch.tensor([[0, 0], [2, 0], [0, 2], [-2, 1]])
        return cls(shape=(1, 8, 8), probe=torch.ones(1, 8, 8, dtype=torch.complex64), shifts=shifts)


class TGV(Proximable):
    """weight · TGV(x), second-order total generalised variation, without a value: ``deepinv.models.TGVDenoiser``.

    Piecewise affine images instead of TV's piecewise constant ones (Bredies, Kunisch & Pock, SIAM J. Imaging Sci. 3,
    2010). Each prox runs their primal-dual iteration anew, sample by sample.

    weight : > 0, in units of 1/x. tol : relative change at which their iteration stops. max_iter : of them.
    """

    has_value = False

    def __init__(self, weight: PositiveFloat, tol: PositiveFloat = 1e-6, max_iter: PositiveInt = 2000):
        super().__init__()
        self.weight, self.tol, self.max_iter = weight, tol, max_iter

    def _prox(self, z: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        from deepinv.models import TGVDenoiser

        parts = []
        for one, t in zip(z, tau.tolist(), strict=True):
            theirs = TGVDenoiser(crit=self.tol, n_it_max=self.max_iter)  # it keeps its last solution
            parts.append(theirs(one[None], ths=self.weight * t))
        return torch.cat(parts)

    @classmethod
    def example(cls) -> Self:
        return cls(weight=0.5)
