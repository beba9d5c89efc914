"""Least squares by conjugate gradients."""

from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from pydantic import NonNegativeFloat, PositiveInt

from pnpkit.linalg import expand, inner, norm
from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver
from pnpkit.solvers.steps import start


class CGState(NamedTuple):
    x: torch.Tensor
    r: torch.Tensor
    p: torch.Tensor
    rr: torch.Tensor
    target: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class CG(Solver):
    """min nll(x) + damping·L/2·‖x‖² for Gaussian noise: CG on the normal equations (Hestenes & Stiefel 1952).

    L = ‖A‖²/sigma² is the data term's Lipschitz constant, so ``damping`` has no units; 0 is plain least squares,
    where stopping early regularises (CG-SENSE: Pruessmann et al. 2001). One step is one iteration; ``tol`` bounds
    the relative change of x.
    """

    n_steps: PositiveInt = 30
    tol: NonNegativeFloat | None = None
    damping: NonNegativeFloat = 0.0

    needs = {"operator": ("linear",), "likelihood": ("gaussian",)}
    minimises = True

    def _normal(self, problem: Problem, x: torch.Tensor) -> torch.Tensor:
        operator, _, weight = problem._whitened
        out = expand(weight, x) * operator.normal(x)
        return out + self.damping * expand(problem.lipschitz, x) * x if self.damping else out

    def init(self, problem: Problem, prior: None, rng: torch.Generator, x0: torch.Tensor | None = None) -> CGState:
        operator, y, weight = problem._whitened
        b = expand(weight, y) * y
        b = operator.adjoint(b)
        x = torch.zeros_like(b) if x0 is None else start(problem, x0, rng)
        r = b if x0 is None else b - self._normal(problem, x)
        # Below this a residual is rounding noise, and dividing by it would bring it back.
        floor = torch.finfo(norm(b).dtype).eps ** 2
        return CGState(x, r, r, inner(r, r), floor * inner(b, b))

    def step(self, problem: Problem, prior: None, state: CGState, k: int, rng: torch.Generator):
        x, r, p, rr, target = state
        active = rr > target
        q = self._normal(problem, p)
        curvature = inner(p, q)
        usable = active & (curvature > 0)
        one = torch.ones_like(rr)
        alpha = torch.where(usable, rr / torch.where(usable, curvature, one), 0 * rr)
        x = x + expand(alpha, x) * p
        r = r - expand(alpha, r) * q
        new = inner(r, r)
        beta = torch.where(usable, new / torch.where(usable, rr, one), 0 * rr)
        state = CGState(x, r, r + expand(beta, p) * p, torch.where(usable, new, 0 * rr), target)
        return state, {"residual": new.sqrt()}

    @classmethod
    def example(cls) -> Self:
        return cls(n_steps=60)
