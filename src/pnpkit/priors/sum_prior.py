"""Several priors at once."""

import warnings
from typing import Self

import torch
from pydantic import PositiveFloat, PositiveInt

from pnpkit.errors import ConvergenceWarning, SpecError
from pnpkit.linalg import norm
from pnpkit.priors.base import Proximable
from pnpkit.types import Shape


class SumPrior(Proximable):
    """h_1 + h_2 + …, e.g. TV + wavelets + a box.

    PDHG handles the parts one by one (``terms``). The joint prox, for solvers that want it, is the parallel
    Dykstra-like proximal algorithm (Combettes & Pesquet 2011, algorithm 10.31), until the relative change is ``tol``.

    Parameters
    ----------
    priors : the parts.
    tol, max_iter : of the joint prox.
    """

    def __init__(self, priors: tuple[Proximable, ...], tol: PositiveFloat = 1e-6, max_iter: PositiveInt = 500):
        super().__init__()
        if not priors:
            raise SpecError("SumPrior: give at least one prior.")
        self._priors = torch.nn.ModuleList(priors)
        self.tol, self.max_iter = tol, max_iter
        self.has_value = all(p.has_value for p in priors)  # type: ignore[misc]

    @property
    def priors(self) -> tuple[Proximable, ...]:
        return tuple(self._priors)  # type: ignore[arg-type]

    def misfit(self, shape: Shape, dtype: torch.dtype) -> str | None:
        reasons = [f"{type(p).__name__}: {r}" for p in self.priors if (r := p.misfit(shape, dtype))]
        return "; ".join(reasons) or None

    def _prox(self, z: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        m = len(self.priors)
        x, corrections = z, [z] * m
        active = torch.ones(z.shape[0], dtype=torch.bool, device=z.device)
        for _ in range(self.max_iter):
            parts = [p._prox(c, m * tau) for p, c in zip(self.priors, corrections, strict=True)]
            new = torch.stack(parts).mean(0)
            keep = active.reshape(-1, *[1] * (z.ndim - 1))
            change = norm(new - x)
            corrections = [torch.where(keep, new + c - part, c) for c, part in zip(corrections, parts, strict=True)]
            x = torch.where(keep, new, x)
            active = active & (change > self.tol * norm(x))
            if not bool(active.any()):
                return self._feasible(x, parts)
        warnings.warn(
            f"SumPrior.prox: not within {self.tol:.0e} after {self.max_iter} iterations; raise max_iter, or use pdhg, "
            "which takes the parts one by one.",
            ConvergenceWarning,
            stacklevel=2,
        )
        return self._feasible(x, parts)

    def _feasible(self, x: torch.Tensor, parts: list[torch.Tensor]) -> torch.Tensor:
        """The average of the parts meets a constraint only up to ``tol``; the constraint's own part meets it."""
        for prior, part in zip(self.priors, parts, strict=True):
            if prior.has_value:
                inside = torch.isfinite(prior._value(x)).reshape(-1, *[1] * (x.ndim - 1))
                x = torch.where(inside, x, part)
        return x

    def _value(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([p.value(x) for p in self.priors]).sum(0)

    def terms(self, shape: Shape, dtype: torch.dtype):
        return tuple(term for p in self.priors for term in p.terms(shape, dtype))

    @classmethod
    def example(cls) -> Self:
        from pnpkit.priors.box import Box
        from pnpkit.priors.l1 import L1

        return cls(priors=(L1(weight=0.3), Box(low=-0.5, high=0.8)), tol=1e-7, max_iter=2000)
