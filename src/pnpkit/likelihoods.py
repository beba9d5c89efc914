"""Noise models: p(y | z) with z = A(x). Noise is never part of the operator.

``sigma`` is the standard deviation of each real component: complex noise of sigma has
E|n|² = 2 sigma². Values are per sample, (B,); gradients are with respect to z.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import nn

from pnpkit.errors import CapabilityError, DataError, ShapeError, SpecError
from pnpkit.linalg import expand
from pnpkit.spec import Component
from pnpkit.types import Shape

_TINY = 1e-30  # a guard for 0/0, far below any rate


class Likelihood(nn.Module, Component):
    """p(y | z). ``name`` is what a solver's ``needs`` refers to."""

    kind = "likelihoods"
    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    name = ""
    expected_failures: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def example(cls) -> Self:
        """A small CPU instance for the conformance suite."""
        raise CapabilityError(f"{cls.__name__} has no example(); `pnpkit check` needs one.")

    @property
    def example_shape(self) -> Shape:
        """A measurement shape the example fits, without batch."""
        return (6,)

    @abstractmethod
    def sample(self, z: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """A noisy measurement of z = A(x), (B, *out_shape)."""

    @abstractmethod
    def nll(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """−log p(y | z) up to a constant in z, (B,)."""

    @abstractmethod
    def grad(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Gradient of ``nll`` with respect to z, (B, *out_shape)."""

    @abstractmethod
    def scaled(self, c: float | torch.Tensor) -> "Likelihood":
        """The likelihood of c·y given c·z (c a number; Poisson counts stay, its gain changes)."""

    def scaled_data(self, y: torch.Tensor, c: float) -> torch.Tensor:
        """The measurement that goes with ``scaled(c)``."""
        return c * y

    def prox(self, v: torch.Tensor, y: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        """argmin_z ½‖z − v‖² + tau·nll(z), v (B, *out_shape), tau (B,); where there is a closed form."""
        raise CapabilityError(f"{type(self).__name__} has no closed-form prox; use a gradient solver (pgd, fista).")

    def invert(self, y: torch.Tensor) -> torch.Tensor:
        """The z that y would be the noiseless measurement of, (B, *out_shape)."""
        return y

    def feasible(self, z: torch.Tensor) -> torch.Tensor:
        """(B,): whether every element of z has a density. Searches ask before they evaluate."""
        return torch.ones(z.shape[0], dtype=torch.bool, device=z.device)

    def check(self, y: torch.Tensor, out_shape: Shape) -> None:
        """Raise where y, or this noise model's own tensors, do not fit ``out_shape``."""

    def index(self, select, rank: int | None = None) -> "Likelihood":
        """Per-sample parameters of ``problem[i:j]``; ``rank`` is that of one measurement."""
        return self

    def repeat(self, n: int, rank: int | None = None) -> "Likelihood":
        """Per-sample parameters of ``problem.repeat(n)``."""
        return self

    def rows(self, idx: torch.Tensor, axis: int, out_shape: Shape) -> "Likelihood":
        """Per-element parameters of ``problem.rows(idx)``; axis counts from the end."""
        return self

    def _apply(self, fn, recurse: bool = True):
        """``.to(dtype)`` casts float buffers only; a noise level is real whatever y is."""
        return super()._apply(lambda t: _real_part(fn, t), recurse)


def _real_part(fn, t: torch.Tensor) -> torch.Tensor:
    moved = fn(t)
    return moved.real if moved.is_complex() and not t.is_complex() else moved


class Gaussian(Likelihood):
    """y = z + sigma·n.

    Parameters
    ----------
    sigma : standard deviation of each real component, > 0, in units of y: a number, (B,) one per
        sample, or one per element, (1 or B, *out_shape). The leading axis is always the batch.
    """

    name = "gaussian"
    sigma: torch.Tensor

    def __init__(self, sigma: float | torch.Tensor):
        super().__init__()
        value = torch.as_tensor(sigma, dtype=None if isinstance(sigma, torch.Tensor) else torch.get_default_dtype())
        if value.is_complex() or not bool((torch.isfinite(value) & (value > 0)).all()):
            raise SpecError(
                f"Gaussian: sigma must be real, finite and > 0 everywhere, given {_show(value)}. For data without "
                "noise give a small sigma, e.g. 1e-3 of the measurement's standard deviation."
            )
        self.register_buffer("sigma", value.detach().clone())

    def std(self, z: torch.Tensor) -> torch.Tensor:
        """sigma, shaped to broadcast against z (B, *out_shape)."""
        s = self.sigma
        return s.reshape(-1, *[1] * (z.ndim - 1)) if s.ndim == 1 else s

    @property
    def per_element(self) -> bool:
        return self.sigma.ndim > 1

    def sample(self, z: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        return z + self.std(z) * randn_like(z, rng)

    def nll(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return 0.5 * (torch.abs(z - y) / self.std(z)).square().flatten(1).sum(1)

    def grad(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (z - y) / self.std(z) ** 2

    def prox(self, v: torch.Tensor, y: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        t = expand(tau, v) / self.std(v) ** 2
        return (v + t * y) / (1 + t)

    def scaled(self, c: float | torch.Tensor) -> "Gaussian":
        return Gaussian(sigma=self.sigma * c)

    def check(self, y: torch.Tensor, out_shape: Shape) -> None:
        s = self.sigma
        fits = s.ndim == 0 or (s.shape[0] in (1, y.shape[0]) and s.shape[1:] in ((), torch.Size(out_shape)))
        if not fits:
            raise ShapeError(
                f"Gaussian: sigma has shape {tuple(s.shape)}; expected a number, ({y.shape[0]},) for one per sample, "
                f"or {(1, *out_shape)} / {(y.shape[0], *out_shape)} for one per element."
            )

    def _per_sample(self) -> bool:
        return self.sigma.ndim > 0 and self.sigma.shape[0] > 1

    def index(self, select, rank: int | None = None) -> "Gaussian":
        return Gaussian(sigma=self.sigma[select]) if self._per_sample() else self

    def repeat(self, n: int, rank: int | None = None) -> "Gaussian":
        return Gaussian(sigma=self.sigma.repeat_interleave(n, 0)) if self._per_sample() else self

    def rows(self, idx: torch.Tensor, axis: int, out_shape: Shape) -> "Gaussian":
        return Gaussian(sigma=self.sigma.index_select(axis, idx)) if self.per_element else self

    @classmethod
    def example(cls) -> Self:
        return cls(sigma=torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]]))


class Poisson(Likelihood):
    """y ~ Poisson(gain·z + background), y in counts.

    Parameters
    ----------
    gain : expected counts per unit of z, > 0.
    background : expected background counts, ≥ 0: a number or a tensor broadcastable to y; one axis more than a
        measurement has is the batch.
    """

    name = "poisson"
    background: torch.Tensor

    def __init__(self, gain: float = 1.0, background: float | torch.Tensor = 0.0):
        super().__init__()
        if not 0 < gain < float("inf"):
            raise SpecError(f"Poisson: gain is counts per unit of z and must be finite and > 0, given {gain}.")
        value = torch.as_tensor(background, dtype=None if isinstance(background, torch.Tensor) else torch.float32)
        if not bool((torch.isfinite(value) & (value >= 0)).all()):
            raise SpecError(f"Poisson: background must be finite and ≥ 0, given {_show(value)}.")
        self.gain = gain
        self.register_buffer("background", value.detach().clone())

    def rate(self, z: torch.Tensor) -> torch.Tensor:
        """Expected counts; DataError where they are negative."""
        rate = self.gain * z + self.background
        if bool((rate < 0).any()):
            raise DataError(
                f"Poisson: expected counts reach {float(rate.min()):.3g} < 0. Use a solver that keeps x ≥ 0 "
                "(mlem, or pgd with the prior 'box'), or give the background."
            )
        return rate

    def sample(self, z: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        return torch.poisson(self.rate(z), generator=rng)

    def nll(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        rate = self.rate(z)
        return (rate - torch.xlogy(y, rate)).flatten(1).sum(1)

    def grad(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        rate = self.rate(z)
        # y = 0 with rate = 0 contributes nothing; y > 0 with rate = 0 is +inf, as it should be.
        return self.gain * (1 - torch.where(y == 0, torch.zeros_like(y), y / rate))

    def prox(self, v: torch.Tensor, y: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        """The root ≥ 0 of r² − (gain·v + b − tau·gain²)·r − tau·gain²·y = 0, r = gain·z + b the rate."""
        t = expand(tau, v) * self.gain**2
        half = 0.5 * (self.gain * v + self.background - t)
        root = torch.sqrt(half * half + t * y)
        # The quotient form where half < 0: there the sum would cancel.
        rate = torch.where(half > 0, half + root, t * y / torch.where(half > 0, 1, (root - half).clamp_min(_TINY)))
        return (rate - self.background) / self.gain

    def invert(self, y: torch.Tensor) -> torch.Tensor:
        return (y - self.background) / self.gain

    def feasible(self, z: torch.Tensor) -> torch.Tensor:
        return ~(self.gain * z + self.background < 0).flatten(1).any(1)

    def _per_sample(self, rank: int | None) -> bool:
        return rank is not None and self.background.ndim == rank + 1 and self.background.shape[0] > 1

    def index(self, select, rank: int | None = None) -> "Poisson":
        return Poisson(gain=self.gain, background=self.background[select]) if self._per_sample(rank) else self

    def repeat(self, n: int, rank: int | None = None) -> "Poisson":
        if not self._per_sample(rank):
            return self
        return Poisson(gain=self.gain, background=self.background.repeat_interleave(n, 0))

    def rows(self, idx: torch.Tensor, axis: int, out_shape: Shape) -> "Poisson":
        b = self.background
        varies = b.ndim >= -axis and b.shape[axis] > 1
        return Poisson(gain=self.gain, background=b.index_select(axis, idx)) if varies else self

    def scaled(self, c: float | torch.Tensor) -> "Poisson":
        return Poisson(gain=float(self.gain / c), background=self.background)

    def scaled_data(self, y: torch.Tensor, c: float) -> torch.Tensor:
        return y

    def check(self, y: torch.Tensor, out_shape: Shape) -> None:
        if y.is_complex():
            raise DataError("Poisson: counts are real, given a complex y.")
        if bool((y < 0).any()):
            raise DataError(f"Poisson: counts are ≥ 0, but y reaches {float(y.min()):.3g}.")
        try:
            fits = torch.broadcast_shapes(self.background.shape, y.shape) == y.shape
        except RuntimeError:
            fits = False
        if not fits:
            raise ShapeError(
                f"Poisson: background {tuple(self.background.shape)} does not broadcast to {tuple(y.shape)}."
            )

    @classmethod
    def example(cls) -> Self:
        return cls(gain=20.0, background=torch.tensor([0.5, 1.0, 0.0, 2.0, 0.1, 3.0]))


class SplitLikelihood(Likelihood):
    """Independent noise on the parts of a ``Stack``'s flat measurement.

    Parameters
    ----------
    parts : one likelihood per operator of the stack; ``split`` sizes come from ``sizes``.
    sizes : number of measurements of each part.
    """

    name = "split"

    def __init__(self, parts: tuple[Likelihood, ...], sizes: tuple[int, ...]):
        super().__init__()
        if len(parts) != len(sizes) or not parts:
            raise SpecError(f"SplitLikelihood: {len(parts)} parts for {len(sizes)} sizes; give one size per part.")
        self._parts, self.sizes = nn.ModuleList(parts), sizes
        names = {p.name for p in parts}
        # A stack of Gaussians is Gaussian with a per-element sigma: same closed forms.
        self.name = "gaussian" if names == {"gaussian"} else "split"

    @property
    def parts(self) -> tuple[Likelihood, ...]:
        return tuple(self._parts)  # type: ignore[arg-type]

    def std(self, z: torch.Tensor) -> torch.Tensor:
        """Per-element sigma of the flat measurement, where every part is Gaussian."""
        if self.name != "gaussian":
            raise CapabilityError("SplitLikelihood: only parts that are all Gaussian have a sigma.")
        pieces = z.split(self.sizes, dim=1)
        rows = [torch.broadcast_to(p.std(s), s.shape) for p, s in zip(self.parts, pieces, strict=True)]  # type: ignore[attr-defined]
        return torch.cat(rows, 1)

    @property
    def per_element(self) -> bool:
        return True

    def prox(self, v: torch.Tensor, y: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        parts = zip(self.parts, v.split(self.sizes, 1), y.split(self.sizes, 1), strict=True)
        return torch.cat([p.prox(a, b, tau) for p, a, b in parts], 1)

    def invert(self, y: torch.Tensor) -> torch.Tensor:
        return torch.cat(self._each("invert", y), 1)

    def feasible(self, z: torch.Tensor) -> torch.Tensor:
        return torch.stack(self._each("feasible", z)).all(0)

    def _each(self, method: str, z: torch.Tensor, *others) -> list[torch.Tensor]:
        pieces = [t.split(self.sizes, dim=1) for t in (z, *[o for o in others if isinstance(o, torch.Tensor)])]
        extra = [o for o in others if not isinstance(o, torch.Tensor)]
        return [getattr(p, method)(*row, *extra) for p, *row in zip(self.parts, *pieces, strict=True)]

    def sample(self, z: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        return torch.cat(self._each("sample", z, rng), 1)

    def nll(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.stack(self._each("nll", z, y)).sum(0)

    def grad(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.cat(self._each("grad", z, y), 1)

    def _map(self, method: str, *args) -> "SplitLikelihood":
        return SplitLikelihood(parts=tuple(getattr(p, method)(*args) for p in self.parts), sizes=self.sizes)

    def scaled(self, c: float | torch.Tensor) -> "SplitLikelihood":
        return self._map("scaled", c)

    def scaled_data(self, y: torch.Tensor, c: float) -> torch.Tensor:
        pieces = y.split(self.sizes, dim=1)
        return torch.cat([p.scaled_data(s, c) for p, s in zip(self.parts, pieces, strict=True)], 1)

    def index(self, select, rank: int | None = None) -> "SplitLikelihood":
        return self._map("index", select, 1)

    def repeat(self, n: int, rank: int | None = None) -> "SplitLikelihood":
        return self._map("repeat", n, 1)

    def rows(self, idx: torch.Tensor, axis: int, out_shape: Shape) -> "SplitLikelihood":
        raise CapabilityError("SplitLikelihood: take rows of the parts before stacking them.")

    def check(self, y: torch.Tensor, out_shape: Shape) -> None:
        if len(out_shape) != 1 or sum(self.sizes) != out_shape[0]:
            raise ShapeError(f"SplitLikelihood: sizes {self.sizes} do not add up to the measurement {out_shape}.")
        for part, piece, size in zip(self.parts, y.split(self.sizes, dim=1), self.sizes, strict=True):
            part.check(piece, (size,))

    @classmethod
    def example(cls) -> Self:
        return cls(parts=(Gaussian(sigma=0.3), Poisson(gain=20.0, background=1.0)), sizes=(4, 2))


def randn_like(z: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Standard normal in each real component (torch's complex randn has variance 1 in total)."""
    if z.is_complex():
        return torch.view_as_complex(torch.randn(*z.shape, 2, dtype=z.real.dtype, device=z.device, generator=rng))
    return torch.randn(z.shape, dtype=z.dtype, device=z.device, generator=rng)


def _show(value: torch.Tensor) -> str:
    return (
        f"{float(value.real if value.is_complex() else value):g}"
        if value.ndim == 0
        else f"a tensor {tuple(value.shape)}"
    )
