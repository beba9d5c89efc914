"""The prior contracts: denoisers, proximable functions, posterior denoisers, and sets of priors."""

import copy
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self, final

import torch
from torch import nn

from pnpkit.errors import CapabilityError, ShapeError, SpecError
from pnpkit.linalg import expand
from pnpkit.operators.base import keep_complexness
from pnpkit.spec import Component
from pnpkit.types import Scalar, Shape

if TYPE_CHECKING:
    from pnpkit.operators.base import LinearOperator
    from pnpkit.problem import Problem


@dataclass(frozen=True)
class Domain:
    """What a denoiser accepts.

    shape : image shape without batch; None in a place (or for the whole) means any.
    dtype : exact dtype of images.
    sigma_range : noise levels it was made for, in units of its images.
    value_range : nominal range of clean images, or None for any scale.
    """

    shape: tuple[int | None, ...] | None = None
    dtype: torch.dtype = torch.float32
    sigma_range: tuple[float, float] = (0.0, float("inf"))
    value_range: tuple[float, float] | None = None

    def misfit(self, shape: Shape, dtype: torch.dtype) -> str | None:
        """Why images of this shape and dtype are not accepted, or None."""
        if self.dtype != dtype:
            return f"it works on {self.dtype} images, these are {dtype}"
        wanted = self.shape
        if wanted is not None and (
            len(wanted) != len(shape) or any(w not in (None, n) for w, n in zip(wanted, shape, strict=True))
        ):
            return f"it works on images {wanted}, these are {shape}"
        return None


@dataclass
class PriorCounter:
    """Calls made on a counted copy of a prior."""

    calls: int = 0


class Prior(nn.Module, Component):
    """Common base: ``kind``, counting, and examples for the conformance suite."""

    kind = "priors"
    provides: ClassVar[tuple[str, ...]] = ()  # what a solver's ``needs`` refers to
    expected_failures: ClassVar[Mapping[str, str]] = {}
    _counter: PriorCounter | None = None

    @classmethod
    def example(cls) -> Self:
        """A small CPU instance for the conformance suite."""
        raise CapabilityError(f"{cls.__name__} has no example(); `pnpkit check` needs one.")

    @property
    def example_shape(self) -> Shape:
        """An image shape the example accepts, without batch."""
        return (1, 16, 16)

    @property
    def precision(self) -> torch.dtype | None:
        domain = getattr(self, "domain", None)
        return None if domain is None else domain.dtype.to_real()

    def misfit(self, shape: Shape, dtype: torch.dtype) -> str | None:
        """Why this prior cannot take such images, or None."""
        return None

    def gaussian_model(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Mean (*example_shape) and covariance (n, n) of images for which this prior is exact, or None.

        The conformance suite then compares a denoiser with the Wiener estimate.
        """
        return None

    def _apply(self, fn, recurse: bool = True):
        """``.to(dtype)`` keeps complexness and reaches the domain: images then have the prior's own precision."""
        super()._apply(lambda t: keep_complexness(fn, t), recurse)
        domain = getattr(self, "domain", None)
        if domain is not None:
            real = keep_complexness(fn, torch.zeros(0, dtype=domain.dtype.to_real())).dtype
            self.domain = replace(domain, dtype=real.to_complex() if domain.dtype.is_complex else real)
        return self

    @final
    def counted(self, counter: PriorCounter) -> Self:
        """A copy that counts its calls; shares its tensors with this one."""
        new = copy.copy(self)
        new._counter = counter
        return new

    def _count(self) -> None:
        if self._counter is not None:
            self._counter.calls += 1


class Denoiser(Prior):
    """D(x, sigma) = E[x0 | x0 + sigma·n = x]: the one denoiser convention (VE form).

    Authors write ``_denoise(x, sigma)``, with x (B, *shape) and sigma (B,), and set ``domain``.
    """

    provides = ("denoise",)
    domain: Domain = Domain()

    @abstractmethod
    def _denoise(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """The denoised image; must not write into x."""

    @final
    def forward(self, x: torch.Tensor, sigma: Scalar) -> torch.Tensor:
        """E[x0 | x], x (B, *shape), sigma > 0 a number, 0-d or (B,), in units of x and in ``domain.sigma_range``."""
        if reason := self.misfit(tuple(x.shape[1:]), x.dtype):
            raise ShapeError(f"{type(self).__name__}: {reason}.")
        self._count()
        return self._denoise(x, self._checked_sigma(x, sigma))

    denoise = forward

    def score(self, x: torch.Tensor, sigma: Scalar) -> torch.Tensor:
        """∇ log p_sigma(x) = (D(x, sigma) − x) / sigma² (Tweedie)."""
        s = expand(sigma, x)
        return (self.forward(x, sigma) - x) / (s * s)

    def misfit(self, shape: Shape, dtype: torch.dtype) -> str | None:
        return self.domain.misfit(shape, dtype)

    def allowed(self, x: torch.Tensor) -> torch.Tensor:
        """x moved to where the prior puts all its mass, for one that does (a unit sum): its results lie there, and the
        conformance suite tests it with images there."""
        return x

    def fit_sigma(self, sigma: float) -> float:
        """The nearest noise level the denoiser accepts; solvers use it once, at init, and report it."""
        low, high = self.domain.sigma_range
        return min(max(sigma, low), high)

    def _checked_sigma(self, x: torch.Tensor, sigma: Scalar) -> torch.Tensor:
        s = torch.as_tensor(sigma, dtype=x.real.dtype if x.is_complex() else x.dtype, device=x.device)
        if s.ndim > 1 or (s.ndim == 1 and s.shape[0] != x.shape[0]):
            raise ShapeError(
                f"{type(self).__name__}: sigma must be a number or ({x.shape[0]},), given {tuple(s.shape)}."
            )
        if torch.compiler.is_compiling():  # a traced program cannot look at values (native_package.compiled)
            return s.expand(x.shape[0])
        low, high = self.domain.sigma_range
        # One part in a million of slack: a float32 sigma at the very end of the range is inside it.
        if not bool(((s >= low * (1 - 1e-6)) & (s <= high * (1 + 1e-6)) & (s > 0)).all()):
            raise CapabilityError(
                f"{type(self).__name__}: sigma {float(s.min()):.4g} to {float(s.max()):.4g} is outside the range "
                f"[{low:g}, {high:g}]. Rescale the images, or let a solver fit its schedule with fit_sigma."
            )
        return s.expand(x.shape[0])


class Proximable(Prior):
    """h(x) with a proximal operator; the strength of h is its own parameter.

    Authors write ``_prox(z, tau)`` and, where it exists, ``_value(x)``.
    """

    provides = ("prox",)
    has_value: ClassVar[bool] = True
    convex: ClassVar[bool] = True  # its prox is then firmly non-expansive, and checked to be
    degree: ClassVar[int | None] = None  # h(c·x) = c^degree·h(x) for c > 0; ``compose`` has a default weight for 1

    @abstractmethod
    def _prox(self, z: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        """argmin_x ½‖x − z‖² + tau·h(x); z (B, *shape), tau (B,)."""

    def _value(self, x: torch.Tensor) -> torch.Tensor:
        raise CapabilityError(f"{type(self).__name__} has no value: it is defined by its prox only.")

    @final
    def prox(self, z: torch.Tensor, tau: Scalar) -> torch.Tensor:
        """argmin_x ½‖x − z‖² + tau·h(x); z (B, *shape), tau > 0 a number, 0-d or (B,)."""
        if reason := self.misfit(tuple(z.shape[1:]), z.dtype):
            raise ShapeError(f"{type(self).__name__}: {reason}.")
        if not isinstance(tau, torch.Tensor) and not 0 <= tau < float("inf"):
            raise SpecError(f"{type(self).__name__}: tau is a step ≥ 0 and finite, given {tau}.")
        t = torch.as_tensor(tau, dtype=z.real.dtype if z.is_complex() else z.dtype, device=z.device)
        if t.ndim > 1 or (t.ndim == 1 and t.shape[0] != z.shape[0]):
            raise ShapeError(f"{type(self).__name__}: tau must be a number or ({z.shape[0]},), given {tuple(t.shape)}.")
        self._count()
        return self._prox(z, t.expand(z.shape[0]))

    @final
    def value(self, x: torch.Tensor) -> torch.Tensor:
        """h(x) per sample, (B,); +inf outside a constraint."""
        return self._value(x)

    def terms(self, shape: Shape, dtype: torch.dtype) -> "tuple[tuple[LinearOperator | None, Proximable], ...]":
        """h(x) = Σ h_i(K_i x) on images of ``shape``, as (K_i, h_i), K None for the identity."""
        return ((None, self),)


class PosteriorDenoiser(Prior):
    """E[x0 | x_t, y]: knows the problem. Never satisfies ``needs: denoise`` by itself."""

    provides = ("posterior_denoise",)
    domain: Domain = Domain()

    @abstractmethod
    def _posterior_denoise(self, x: torch.Tensor, sigma: torch.Tensor, problem: "Problem") -> torch.Tensor:
        """E[x0 | x0 + sigma·n = x, y]; x (B, *shape), sigma (B,)."""

    @final
    def forward(self, x: torch.Tensor, sigma: Scalar, problem: "Problem") -> torch.Tensor:
        """E[x0 | x0 + sigma·n = x, problem.y]."""
        return self.given(problem)(x, sigma)

    @final
    def given(self, problem: "Problem") -> Denoiser:
        """The denoiser of this problem's posterior: plain samplers run on it."""
        if reason := self.misfit(problem.in_shape, problem.in_dtype):
            raise ShapeError(f"{type(self).__name__} does not fit {type(problem.operator).__name__}: {reason}.")
        return Given(posterior=self, problem=problem)

    def misfit(self, shape: Shape, dtype: torch.dtype) -> str | None:
        return self.domain.misfit(shape, dtype)


class Given(Denoiser):
    """``posterior.given(problem)``; made by it, not by name."""

    def __init__(self, posterior: PosteriorDenoiser, problem: object):
        super().__init__()
        self.posterior, self.problem = posterior, problem
        self.domain = posterior.domain

    def _denoise(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        if x.shape[0] != self.problem.batch:  # type: ignore[attr-defined]
            raise ShapeError(
                f"{type(self.posterior).__name__}: {x.shape[0]} images for a problem of {self.problem.batch} "  # type: ignore[attr-defined]
                "measurements; use problem.repeat(n) for several images of one measurement."
            )
        return self.posterior._posterior_denoise(x, sigma, self.problem)  # type: ignore[arg-type]


class Priors(Mapping[str, Prior]):
    """Several priors by what they are on: ``Priors(x=…, theta=…)``; a blind solver needs both."""

    def __init__(self, *, x: Prior, theta: Prior | Mapping[str, Prior] | None = None):
        parts = {} if theta is None else theta if isinstance(theta, Mapping) else {"theta": theta}
        self._parts: dict[str, Prior] = {"x": x, **parts}
        for name, part in self._parts.items():
            if not isinstance(part, Prior):
                raise SpecError(f"Priors: {name} must be a prior, given {type(part).__name__}.")

    def __getitem__(self, name: str) -> Prior:
        return self._parts[name]

    def __iter__(self):
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)
