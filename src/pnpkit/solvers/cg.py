"""Least squares by conjugate gradients."""

from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import torch
from pydantic import NonNegativeFloat, PositiveInt

from pnpkit.linalg import expand, inner
from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver


class CGState(NamedTuple):
    x: torch.Tensor
    r: torch.Tensor  # b − H x
    p: torch.Tensor  # search direction
    rr: torch.Tensor  # ‖r‖², (B,)
    bb: torch.Tensor  # ‖b‖², (B,)


@dataclass(frozen=True, kw_only=True)
class CG(Solver):
    """Solve (A^H A/sigma² + weight)·x = A^H y/sigma² by conjugate gradients (Hestenes & Stiefel 1952).

    The minimiser of nll(x) + weight/2·‖x‖², Gaussian noise, with any sigma (per sample, per element). One step is one
    iteration, from 0 or from x0. With weight = 0 stopping early regularises: CG-SENSE (Pruessmann et al. 2001).

    weight : ≥ 0, in units of 1/x²; as in the prior ``tikhonov``.
    tol : a sample stands still once its relative residual is ≤ tol; the run ends when all do, or move less than that.
    """

    n_steps: PositiveInt = 30
    tol: NonNegativeFloat | None = None
    weight: NonNegativeFloat = 0.0

    needs = {"operator": ("linear",), "likelihood": ("gaussian",)}
    minimises = True

    def _hessian(self, problem: Problem, x: torch.Tensor) -> torch.Tensor:
        h = problem.normal(x)
        return h + self.weight * x if self.weight else h

    def init(self, problem: Problem, prior: None, rng: torch.Generator, x0: torch.Tensor | None = None) -> CGState:
        b = problem.rhs()
        x = torch.zeros_like(b) if x0 is None else x0.clone()
        r = b if x0 is None else b - self._hessian(problem, x)
        return CGState(x, r, r, inner(r, r), inner(b, b))

    def step(self, problem: Problem, prior: None, state: CGState, k: int, rng: torch.Generator):
        x, r, p, rr, bb = state
        q = self._hessian(problem, p)
        curvature = inner(p, q)
        # Below the precision a residual is noise, and dividing by it would bring it back.
        floor = max(self.tol or 0.0, torch.finfo(rr.dtype).eps)
        active = (rr > floor**2 * bb) & (curvature > 0)
        alpha = torch.where(active, rr, 0) / torch.where(active, curvature, 1)
        x = x + expand(alpha, x) * p
        r = r - expand(alpha, r) * q
        new = torch.where(active, inner(r, r), rr)
        beta = torch.where(active, new, 0) / torch.where(active, rr, 1)
        residual = (new / torch.where(bb > 0, bb, 1)).sqrt()
        return CGState(x, r, r + expand(beta, p) * p, new, bb), {"residual": residual}

    def scaled(self, c: float) -> Self:
        """``weight`` is in units of 1/x²."""
        return replace(self, weight=self.weight / c**2)

    @classmethod
    def example(cls) -> Self:
        return cls(n_steps=60)
