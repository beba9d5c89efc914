"""The contract of noise models."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import nn

from pnpkit.errors import CapabilityError
from pnpkit.spec import Component
from pnpkit.types import Shape


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

    def admitted(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """z, or near it where it has no density or next to none; for methods whose images may leave the domain."""
        return z

    @abstractmethod
    def weights(self, y: torch.Tensor) -> torch.Tensor:
        """Inverse variance of y in units of z, estimated from y itself (weighted least squares); like y, real."""

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


def show(value: torch.Tensor) -> str:
    return (
        f"{float(value.real if value.is_complex() else value):g}"
        if value.ndim == 0
        else f"a tensor {tuple(value.shape)}"
    )
