"""Wrong operators: the map, its adjoint, batches, state and randomness."""

import random

import numpy as np
import torch

from pnpkit import linalg

from ..operators.toys_contracts import Coils, Dense, Filter, RunningSum, Saturation
from .registry import caught_by

# --- operators: the map and its adjoint ---


@caught_by("adjoint", "vjp_is_autograd", "dense_adjoint")
class AdjointOffByOnePercent(Coils):
    def _adjoint(self, y):
        return 1.01 * super()._adjoint(y)


@caught_by("adjoint", "vjp_is_autograd", "dense_adjoint")
class ConjugationMissing(Coils):
    def _adjoint(self, y):
        return (self.maps * torch.fft.ifft2(self.mask * y, norm="ortho")).sum(-3, keepdim=True)


@caught_by("adjoint", "dense_adjoint")
class ImaginaryPartOfTheAdjointOnly(Coils):
    """Right for real data, so a test with real inner products of one kind might pass it."""

    def _adjoint(self, y):
        x = super()._adjoint(y)
        return torch.complex(x.real, x.imag + 1e-3 * x.real)


@caught_by("adjoint", "dense_adjoint")
class AdjointShiftedByOnePixel(Filter):
    def _adjoint(self, y):
        return super()._adjoint(y).roll(1, -1)


@caught_by("adjoint", "dense_adjoint")
class AdjointWrongAtTheBorder(RunningSum):
    def _adjoint(self, y):
        x = super()._adjoint(y)
        return torch.cat([x[..., :-1], 0.5 * x[..., -1:]], -1)


@caught_by("adjoint_is_differentiable")
class DetachedAdjoint(Filter):
    def _adjoint(self, y):
        return super()._adjoint(y.detach())


@caught_by("linearity")
class HiddenClamp(Filter):
    def _forward(self, x):
        return super()._forward(x.clamp(-1, 1))


@caught_by("linearity")
class HiddenThreshold(Filter):
    def _forward(self, x):
        return super()._forward(torch.where(x.abs() < 1e-4, torch.zeros_like(x), x))


@caught_by("linearity", "batch_independence")
class AffineOffset(Filter):
    def _forward(self, x):
        return super()._forward(x) + 1e-3 * x.abs().max()


@caught_by("linearity")
class CastToFloat32(Dense):
    def _forward(self, x):
        return super()._forward(x.float().to(x.dtype))


@caught_by("dtype_moves")
class AnswersInFloat32(RunningSum):
    def _forward(self, x):
        return super()._forward(x).float()


@caught_by("strides_do_not_matter")
class ReadsRawMemory(Dense):
    def _forward(self, x):
        flat = torch.as_strided(x, (x.shape[0], 12), (12, 1))
        return (self.entries @ flat.unsqueeze(-1)).squeeze(-1)


# --- operators: batches, state, randomness ---


@caught_by("batch_independence")
class BatchLeak(Filter):
    def _forward(self, x):
        return super()._forward(x) + 1e-3 * x.mean(0, keepdim=True)


@caught_by("batch_independence")
class NormalisesByTheBatch(Saturation):
    def _forward(self, x):
        return self.gain * x / (x.abs().max() + 1)


@caught_by("input_not_mutated")
class WritesIntoTheInput(Filter):
    def _forward(self, x):
        y = super()._forward(x)
        with torch.no_grad():
            x *= 0.5
        return y


@caught_by("input_not_mutated")
class ProxWritesIntoZ(Filter):
    def _prox_l2(self, z, y, tau):
        x = super()._prox_l2(z, y, tau)
        z.copy_(x)
        return x


@caught_by("output_is_new")
class ReturnsAView(Filter):
    def _forward(self, x):
        return x

    def _adjoint(self, y):
        return y


@caught_by("calls_leave_no_trace")
class KeepsTheLastInput(Filter):
    def _forward(self, x):
        self.last = x
        return super()._forward(x)


@caught_by("calls_leave_no_trace")
class CountsInABuffer(Filter):
    def __init__(self, kernel: torch.Tensor):
        super().__init__(kernel)
        self.register_buffer("calls", torch.zeros(1))

    def _forward(self, x):
        self.calls += 1
        return super()._forward(x)


@caught_by("calls_leave_no_trace")
class WarmStartsFromTheLastCall(Dense):
    def _solve(self, normal, b, what):
        start = getattr(self, "_last", None)
        x, _ = linalg.cg(normal, b, x0=start if start is not None and start.shape == b.shape else None, tol=1e-5)
        self._last = x
        return x


@caught_by("global_rng_untouched")
class GlobalRandomness(Filter):
    def _forward(self, x):
        return super()._forward(x) + 1e-9 * torch.randn_like(x)


@caught_by("global_rng_untouched")
class ReseedsTheGlobalGenerator(Filter):
    def _adjoint(self, y):
        np.random.seed(0)
        random.seed(0)
        return super()._adjoint(y)


@caught_by("works_without_grad", "vjp_is_autograd")
class SwitchesGradientsOff(Filter):
    def _forward(self, x):
        torch.set_grad_enabled(False)
        y = super()._forward(x)
        torch.set_grad_enabled(True)
        return y
