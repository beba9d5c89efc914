"""Wrong operators: solves, norms, claimed structure, and parameters."""

from functools import cached_property

import torch

from pnpkit import linalg
from pnpkit.linalg import expand, norm
from pnpkit.operators.base import LinearOperator
from pnpkit.operators.gram import Gram

from ..operators.toys_contracts import Coils, Dense, Filter, Saturation, rng
from .registry import caught_by

# --- operators: solves and claims ---


@caught_by("prox_optimality", "composition_with_identity", "stack")
class WrongProx(Filter):
    def _prox_l2(self, z, y, tau):
        return super()._prox_l2(z, y, 1.05 * tau)


@caught_by("prox_optimality", "prox_step_forms")
class ProxIgnoresItsWeight(Filter):
    def _prox_l2(self, z, y, tau):
        return super()._prox_l2(z, y, 1.0)


@caught_by("prox_optimality", "prox_is_differentiable")
class ProxIgnoresTheData(Dense):
    def _prox_l2(self, z, y, tau):
        return super()._prox_l2(z, self._forward(z), tau)


@caught_by("prox_step_forms", "batch_independence", "prox_optimality")
class OneTauForTheWholeBatch(Filter):
    def _prox_l2(self, z, y, tau):
        return super()._prox_l2(z, y, float(torch.as_tensor(tau).mean()))


@caught_by("data_scale")
class AbsoluteToleranceCG(Dense):
    def _solve(self, normal, b, what):
        x, r = torch.zeros_like(b), b.clone()
        p, rr = r, linalg.inner(b, b)
        for _ in range(200):
            if float(rr.max()) < 1e-8:
                break
            q = normal(p)
            step = rr / linalg.inner(p, q).clamp_min(1e-30)
            x, r = x + expand(step, x) * p, r - expand(step, r) * q
            new = linalg.inner(r, r)
            p, rr = r + expand(new / rr.clamp_min(1e-30), p) * p, new
        return x


@caught_by("batch_independence")
class CGStopsWithTheBatch(Dense):
    """One residual norm for the whole batch: small samples are never solved."""

    def _solve(self, normal, b, what):
        x, r, p = torch.zeros_like(b), b.clone(), b.clone()
        total = (r * r).sum()
        stop = 1e-10 * total
        for _ in range(200):
            if total < stop:
                break
            q = normal(p)
            step = total / (p * q).sum()
            x, r = x + step * p, r - step * q
            new = (r * r).sum()
            p, total = r + new / total * p, new
        return x


@caught_by("pinv")
class PseudoInverseIsTheAdjoint(Dense):
    def _pinv(self, y):
        return self._adjoint(y)


@caught_by("pinv")
class NotTheMinimumNorm(Dense):
    def _pinv(self, y):
        x = super()._pinv(y)
        ones = torch.ones_like(x)
        return x + 0.1 * (ones - super()._pinv(self._forward(ones)))


@caught_by("norm", "operator_scale")
class AbsolutePowerIteration(Filter):
    """Stops on an absolute change, from a scale where that is met at once."""

    def _norm(self):
        v = torch.randn((1, *self.in_shape), dtype=self.dtype, generator=rng())
        v, old = v / norm(v), torch.zeros(())
        for _ in range(100):
            w = self._normal(v)
            new = norm(w)[0]
            v = w / new
            if abs(new - old) < 1e-3:
                break
            old = new
        return new.sqrt()

    @classmethod
    def example(cls):
        return cls(kernel=1e-2 * super().example().kernel)


@caught_by("norm")
class NormTwiceTooLarge(Dense):
    def _norm(self):
        return 2 * super()._norm()


@caught_by("norm")
class NormSquared(Filter):
    def _norm(self):
        return super()._norm() ** 2


@caught_by("structure_claims", "normal")
class GramClaimWrong(Filter):
    def diagonal(self):
        return Gram.of("fourier2", torch.fft.fft2(self.kernel.flip(-1)).abs() ** 2, rank=3)


@caught_by("structure_claims", "pull_and_push")
class GramWithoutItsBatchAxis(Filter):
    """A (C, H, W) diagonal where (1, C, H, W) belongs broadcasts today and mixes samples tomorrow."""

    def diagonal(self):
        return Gram("fourier2", torch.fft.fft2(self.kernel).reshape(self.in_shape)[:, None])


@caught_by("pull_and_push")
class PullIgnoresItsArgument(Filter):
    def _pull(self, g):
        return self.diagonal().abs2()


# --- operators: parameters ---


@caught_by("theta_gradients")
class DetachedTheta(Filter):
    def _otf(self):
        return torch.fft.rfft2(self.kernel.detach())


@caught_by("theta_gradients")
class ThetaDetachedInTheAdjointOnly(Filter):
    def _adjoint(self, y):
        return torch.fft.irfft2(torch.fft.rfft2(y) * torch.fft.rfft2(self.kernel.detach()).conj(), s=y.shape[-2:])


@caught_by("per_sample_theta")
class PerSampleThetaLandsOnChannels(LinearOperator):
    """weight (C,) meant one number per channel; (B, C) with a missing reshape lands on rows and columns."""

    theta = {"weight": 1}
    linear_in = ("weight",)

    def __init__(self, weight: torch.Tensor):
        super().__init__((3, 3, 3))
        self.hold(weight=weight)

    def _forward(self, x):
        return x * self.weight.reshape(-1, 1, 1) if self.weight.ndim == 1 else x * self.weight[..., None]

    def _adjoint(self, y):
        return self._forward(y)

    @classmethod
    def example(cls):
        return cls(weight=torch.tensor([0.5, 1.0, 2.0]))


@caught_by("per_sample_theta")
class UsesTheFirstThetaForAll(Filter):
    """Several physics in one batch silently used only the first."""

    def _otf(self):
        return torch.fft.rfft2(self.kernel[:1] if self.kernel.ndim == 4 else self.kernel)


@caught_by("at", "load_state_dict")
class CacheSurvivesAt(Filter):
    """Cached outside ``derived``, so a copy carries it along."""

    def _forward(self, x):
        return torch.fft.irfft2(torch.fft.rfft2(x) * self._cached_otf, s=x.shape[-2:])

    @cached_property
    def _cached_otf(self):
        return torch.fft.rfft2(self.kernel)


@caught_by("load_state_dict")
class ParameterNotInTheStateDict(Filter):
    def __init__(self, kernel: torch.Tensor):
        super().__init__(kernel)
        self.register_buffer("kernel", kernel.clone(), persistent=False)


@caught_by("state_dict_complete")
class WeightOutsideTheStateDict(Dense):
    def __init__(self, entries: torch.Tensor, shape: tuple[int, ...], gain: torch.Tensor):
        super().__init__(entries, shape)
        self.gain = gain.clone()

    def _forward(self, x):
        return super()._forward(x) * self.gain.to(x.dtype)

    @classmethod
    def example(cls):
        plain = Dense.example()
        return cls(entries=plain.entries, shape=plain.shape, gain=torch.tensor(1.5))


@caught_by("tensors_are_cloned")
class SharesTheCallersTensor(Filter):
    def hold(self, **tensors):
        super().hold(**tensors)
        for name, t in tensors.items():
            self._buffers[name] = t


@caught_by("spec_round_trip")
class AttributeIsNotTheParameter(Filter):
    """Keeps something else under the parameter's name: the saved form gives another operator."""

    def __init__(self, kernel: torch.Tensor):
        super().__init__(kernel / kernel.sum())
        self.kernel.mul_(2.0)


@caught_by("dtype_moves")
class PlainAttributeIsLeftBehind(Filter):
    def __init__(self, kernel: torch.Tensor):
        super().__init__(kernel)
        self.gain = torch.tensor([1.5])

    def _forward(self, x):
        y = super()._forward(x)
        return (y.to(self.gain.dtype) * self.gain) if y.dtype == torch.float64 else y * self.gain

    def _adjoint(self, y):
        return super()._adjoint(y) * self.gain.to(y.dtype)

    def diagonal(self):
        return None


@caught_by("at_reaches_the_output")
class ThetaWithoutEffect(Filter):
    theta = {"kernel": 3, "spare": 1}

    def __init__(self, kernel: torch.Tensor, spare: torch.Tensor):
        super().__init__(kernel)
        self.hold(kernel=kernel, spare=spare)

    @classmethod
    def example(cls):
        return cls(kernel=Filter.example().kernel, spare=torch.ones(2))


@caught_by("pickling")
class CannotBePickled(Filter):
    def __init__(self, kernel: torch.Tensor):
        super().__init__(kernel)
        self.window = lambda t: t


@caught_by("example_reproducible")
class ExampleFromGlobalRandomness(Filter):
    @classmethod
    def example(cls):
        return cls(kernel=torch.randn(2, 5, 4))


@caught_by("vjp_finite_differences", "vjp_is_autograd")
class WrongDerivative(Saturation):
    def _vjp(self, x, v):
        return self.gain * v / torch.sqrt(1 + x * x)


@caught_by("rows")
class RowsInAnotherOrder(Coils):
    def rows(self, idx):
        return super().rows(idx.sort().values)


@caught_by("in_theta", "declaration")
class ClaimsToBeLinearInTheta(Saturation):
    linear_in = ("gain", "offset")

    def _forward(self, x):
        return self.gain**2 * x / torch.sqrt(1 + x * x)


@caught_by("initial")
class StartAtTheWrongScale(Filter):
    def initial(self, y, rng=None):
        return 100.0 * self._adjoint(y)
