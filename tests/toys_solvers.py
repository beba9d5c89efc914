"""Small correct solvers for the conformance suite's own tests; test_planted_bugs breaks them."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from pydantic import PositiveFloat, PositiveInt

from pnpkit.linalg import expand, norm
from pnpkit.solvers.base import Solver


class Iterate(NamedTuple):
    x: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Landweber(Solver):
    """x ← x − ∇nll(x)/L (Landweber 1951)."""

    n_steps: PositiveInt = 100
    tol: PositiveFloat | None = 1e-6
    needs = {"operator": ("linear",), "likelihood": ("gaussian",)}
    minimises = True

    def init(self, problem, prior, rng, x0=None):
        return Iterate(problem.initial(rng) if x0 is None else x0.clone())

    def step(self, problem, prior, state, k, rng):
        g = problem.grad(state.x)
        return Iterate(state.x - g / expand(problem.lipschitz, g)), {"gradient": norm(g)}


@dataclass(frozen=True, kw_only=True)
class ProximalGradient(Solver):
    """x ← prox_{h/L}(x − ∇nll(x)/L)."""

    n_steps: PositiveInt = 50
    tol: PositiveFloat | None = 1e-6
    needs = {"operator": ("linear",), "prior": ("prox",), "likelihood": ("gaussian",)}
    minimises = True

    def init(self, problem, prior, rng, x0=None):
        return Iterate(problem.initial(rng) if x0 is None else x0.clone())

    def step(self, problem, prior, state, k, rng):
        step = 1 / problem.lipschitz
        return Iterate(prior.prox(state.x - expand(step, state.x) * problem.grad(state.x), step)), {}


@dataclass(frozen=True, kw_only=True)
class HalfQuadratic(Solver):
    """Denoise at sigma, then the data term's prox at sigma²: two lines of plug-and-play."""

    n_steps: PositiveInt = 10
    tol: PositiveFloat | None = None
    sigma: PositiveFloat = 0.1
    needs = {"operator": ("linear",), "prior": ("denoise",), "likelihood": ("gaussian",)}

    def init(self, problem, prior, rng, x0=None):
        return Iterate(problem.initial(rng) if x0 is None else x0.clone())

    def step(self, problem, prior, state, k, rng):
        return Iterate(problem.prox(prior.denoise(state.x, self.sigma), self.sigma**2)), {}


@dataclass(frozen=True, kw_only=True)
class DirectSampler(Solver):
    """Exact draws for the quadratic prior weight/2‖x − mean‖²: its Gaussian times the data term's."""

    n_steps: PositiveInt = 2
    tol: PositiveFloat | None = None
    needs = {"operator": ("linear",), "prior": ("prox",), "likelihood": ("gaussian",)}
    samples = True
    exact = True

    def init(self, problem, prior, rng, x0=None):
        return Iterate(problem.initial(rng) if x0 is None else x0.clone())

    def step(self, problem, prior, state, k, rng):
        return Iterate(problem.sample(torch.full_like(state.x, prior.mean), 1 / prior.weight, rng)), {}
