"""Primal-dual splitting: every prior term on its own."""

import copy
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from pnpkit.linalg import expand, inner
from pnpkit.operators.base import LinearOperator
from pnpkit.priors.base import Proximable
from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver
from pnpkit.solvers.steps import on_x, start

Term = tuple[LinearOperator | None, Proximable]


class PDHGState(NamedTuple):
    x: torch.Tensor
    duals: tuple[torch.Tensor, ...]  # one for each term that is not taken by its prox
    data_dual: torch.Tensor | None  # of A x, where the data term is split too
    tau: torch.Tensor  # primal step, (B,)
    steps: tuple[torch.Tensor, ...]  # dual steps, (B,) each
    data_step: torch.Tensor | None


@dataclass(frozen=True, kw_only=True)
class PDHG(Solver):
    """min nll(x) + Σ h_i(K_i x), each h_i by its own prox: TV, wavelets and a box cost the sum of their parts.

    Quadratic data enter by their gradient (Condat 2013, algorithm 3.1; Vũ 2013):
        x+ = prox_{τg}(x − τ·(∇nll(x) + Σ K_i^H u_i)),    u_i+ = prox_{s_i h_i*}(u_i + s_i·K_i(2x+ − x)),
    with g the first term on x itself (K = I), if there is one. Other data (Poisson) are one more dual term, with K = A
    and the closed-form prox of the likelihood (Chambolle & Pock 2011, algorithm 1).

    Steps: s_i = balance·L/(2·m·‖K_i‖²) for m dual terms and 1/τ = L/2 + Σ s_i·‖K_i‖², which fulfils Condat's condition.
    For a split data term L is a typical curvature of nll, its dual step is L/‖A‖², and 1/τ = L + Σ s_i·‖K_i‖².

    balance : dual against primal steps, without units: larger for strong priors, smaller for weak ones.
    """

    n_steps: PositiveInt = 300
    tol: NonNegativeFloat | None = None
    balance: PositiveFloat = 1.0

    needs = {"operator": ("linear",), "prior": ("prox",), "likelihood": ("gaussian|poisson|split",)}
    minimises = True

    def init(self, problem: Problem, prior: Any, rng: torch.Generator, x0: torch.Tensor | None = None) -> PDHGState:
        x = start(problem, x0, rng)
        _, terms = _terms(problem, prior)
        duals = tuple(torch.zeros_like(x if k is None else k._forward(x)) for k, _ in terms)
        norms2 = [1.0 if k is None else float(k.norm()) ** 2 for k, _ in terms]
        split = problem.likelihood.name != "gaussian"
        strength = typical_curvature(problem) if split else problem.lipschitz  # L
        steps = tuple(self.balance * strength / (2 * len(terms) * n) for n in norms2)
        room = strength if split else strength / 2
        tau = 1 / (room + sum(s * n for s, n in zip(steps, norms2, strict=True)))
        if not split:
            return PDHGState(x, duals, None, tau, steps, None)
        return PDHGState(x, duals, torch.zeros_like(problem.y), tau, steps, strength / _norm(problem) ** 2)

    def step(self, problem: Problem, prior: Any, state: PDHGState, k: int, rng: torch.Generator):
        x, duals, data_dual, tau, steps, data_step = state
        g, terms = _terms(problem, prior)
        on_x(prior)._count()  # its parts are called, not it
        operator: Any = problem.operator
        pull = problem.grad(x) if data_dual is None else operator.adjoint(data_dual)
        for (op, _), u in zip(terms, duals, strict=True):
            pull = pull + (u if op is None else op._adjoint(u))
        new = x - expand(tau, x) * pull
        new = new if g is None else g.prox(new, tau)
        ahead = 2 * new - x
        moved = [
            u + expand(s, u) * (ahead if op is None else op._forward(ahead))
            for (op, _), u, s in zip(terms, duals, steps, strict=True)
        ]
        duals = tuple(_conjugate(h.prox, w, s) for (_, h), w, s in zip(terms, moved, steps, strict=True))
        if data_dual is not None and data_step is not None:
            w = data_dual + expand(data_step, data_dual) * operator(ahead)
            data_dual = _conjugate(lambda v, t: problem.likelihood.prox(v, problem.y, t), w, data_step)
        return PDHGState(new, duals, data_dual, tau, steps, data_step), {}

    @classmethod
    def example(cls) -> Self:
        return cls(n_steps=2000)


def _terms(problem: Problem, prior: Any) -> tuple[Proximable | None, list[Term]]:
    """The first term on x itself, and the other (K_i, h_i), on the problem's device."""
    g, rest = None, []
    for k, h in on_x(prior).terms(problem.in_shape, problem.in_dtype):
        if k is None and g is None:
            g = h
        else:
            rest.append((k if k is None or k.device == problem.device else copy.copy(k).to(problem.device), h))
    return g, rest


def _conjugate(prox: Any, w: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """prox of s·h* at w, from h's, by Moreau: w − s·prox_{h/s}(w/s)."""
    wide = expand(s, w)
    return w - wide * prox(w / wide, 1 / s)


def _norm(problem: Problem) -> torch.Tensor:
    operator: Any = problem.operator
    return torch.as_tensor(operator.norm(), device=problem.device).expand(problem.batch)


def typical_curvature(problem: Problem) -> torch.Tensor:
    """‖A‖² times the mean second derivative of nll in z at the data, (B,), weighted by the data: a scale for steps.

    Any positive value converges; this one makes the steps follow the units of x and y.
    """
    likelihood, y = problem.likelihood, problem.y
    z = likelihood.invert(y)
    z = z.clamp_min(0) if not z.is_complex() else z
    z = torch.where(expand(inner(z, z) > 0, z), z, 1)
    d = 1e-2 * z
    curvature = inner(likelihood.grad(z + d, y) - likelihood.grad(z, y), d) / inner(d, d)
    # Without any counts nll is linear; the step then only has to have the units of one count.
    curvature = torch.where(curvature > 0, curvature, likelihood.grad(z, y).square().flatten(1).mean(1))
    return curvature * _norm(problem) ** 2
