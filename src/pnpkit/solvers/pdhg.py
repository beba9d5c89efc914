"""Primal-dual splitting: every prior term on its own."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from pnpkit.errors import SpecError
from pnpkit.likelihoods import Poisson
from pnpkit.linalg import expand
from pnpkit.operators.base import LinearOperator
from pnpkit.priors.base import Proximable
from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver
from pnpkit.solvers.steps import on_x, start


class PDHGState(NamedTuple):
    x: torch.Tensor
    duals: tuple[torch.Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class PDHG(Solver):
    """min nll(x) + Σ h_i(K_i x) by Condat–Vũ (Condat 2013, algorithm 3.1; Vũ 2013).

    Gaussian data enter by their gradient; Poisson data by the prox of their conjugate with K = A (Chambolle & Pock
    2011). Each term of the prior needs only its own prox, so sums of priors cost the sum of their parts.

    Steps: 1/tau = L/2 + s·Σ‖K_i‖² with s the dual step; ``balance`` moves s away from its default
    L/(2·Σ‖K_i‖²), which gives both terms equal weight.
    """

    n_steps: PositiveInt = 300
    tol: NonNegativeFloat | None = None
    balance: PositiveFloat = 1.0

    needs = {"operator": ("linear",), "prior": ("prox",), "likelihood": ("gaussian|poisson",)}
    minimises = True

    def init(self, problem: Problem, prior: Any, rng: torch.Generator, x0: torch.Tensor | None = None) -> PDHGState:
        x = start(problem, x0, rng)
        if isinstance(problem.likelihood, Poisson) and x0 is None:
            x = x.clamp_min(0)
        terms, _ = self._terms(problem, prior)
        duals = tuple(torch.zeros_like(x if k is None else k._forward(x)) for k, _ in terms)
        if isinstance(problem.likelihood, Poisson):
            duals = (torch.zeros_like(problem.y), *duals)
        return PDHGState(x, duals)

    def _terms(self, problem: Problem, prior: Any) -> tuple[list, torch.Tensor]:
        """((K_i, h_i)…) on the problem's device, and Σ‖K_i‖²."""
        terms, total = [], torch.zeros((), device=problem.device, dtype=problem.in_dtype.to_real())
        for k, h in on_x(prior).terms(problem.in_shape, problem.in_dtype):
            if k is not None:
                if (k.in_shape, k.in_dtype.is_complex) != (problem.in_shape, problem.in_dtype.is_complex):
                    raise SpecError(f"PDHG: a term works on {k.in_shape}, the images are {problem.in_shape}.")
                k = k.to(problem.device, problem.in_dtype.to_real())
            terms.append((k, h))
            total = total + (1.0 if k is None else k.norm() ** 2)
        return terms, total

    def _steps(self, problem: Problem, state: PDHGState, total: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(tau, s), (B,) each."""
        operator = problem.operator
        assert isinstance(operator, LinearOperator)
        if isinstance(problem.likelihood, Poisson):
            norm2 = torch.as_tensor(operator.norm()) ** 2 + total
            peak = problem.y.flatten(1).amax(1).clamp_min(1.0) / problem.likelihood.gain  # the scale of z
            s = self.balance * problem.likelihood.gain / (norm2.sqrt() * peak.clamp_min(1e-12))
            return 1 / (s * norm2), s
        half = problem.lipschitz / 2
        s = self.balance * half / total
        return 1 / (half + s * total), s

    def step(self, problem: Problem, prior: Any, state: PDHGState, k: int, rng: torch.Generator):
        terms, total = self._terms(problem, prior)
        tau, s = self._steps(problem, state, total)
        poisson = isinstance(problem.likelihood, Poisson)
        x, duals = state.x, state.duals
        pull = torch.zeros_like(x) if poisson else problem.grad(x)
        if poisson:
            pull = problem.operator.adjoint(duals[0])  # type: ignore[attr-defined]
        for (op, _), u in zip(terms, duals[1:] if poisson else duals, strict=True):
            pull = pull + (u if op is None else op._adjoint(u))
        new = x - expand(tau, x) * pull
        ahead = 2 * new - x
        fresh = [self._dual(h, u + expand(s, u) * (ahead if op is None else op._forward(ahead)), s) for (op, h), u in zip(terms, duals[1:] if poisson else duals, strict=True)]
        if poisson:
            w = duals[0] + expand(s, duals[0]) * problem.operator(ahead)
            fresh = [_poisson_dual(problem.likelihood, problem.y, w, s), *fresh]  # type: ignore[arg-type]
        return PDHGState(new, tuple(fresh)), {}

    @staticmethod
    def _dual(h: Proximable, w: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """prox of s·h* by Moreau: w − s·prox_{h/s}(w/s)."""
        return w - expand(s, w) * h.prox(w / expand(s, w), 1 / s)

    @classmethod
    def example(cls) -> Self:
        return cls(n_steps=2000)


def _poisson_dual(likelihood: Poisson, y: torch.Tensor, w: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """prox of the conjugate of z -> Σ gain·z + b − y·log(gain·z + b), by Moreau; the inner prox is a quadratic root."""
    t = expand(1 / s, w)
    v = w * t
    g, b = likelihood.gain, likelihood.background
    # argmin_z ½(z − v)² + t(g z − y log(g z + b)), with r = g z + b: r² − r(g v + b − t g²) − t g² y = 0.
    linear = g * v + b - t * g * g
    r = 0.5 * (linear + torch.sqrt(linear**2 + 4 * t * g * g * y))
    return w - (r - b) / g / t
