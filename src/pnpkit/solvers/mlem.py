"""Maximum likelihood for counts."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from pydantic import NonNegativeFloat, PositiveInt

from pnpkit.errors import SpecError
from pnpkit.likelihoods import Poisson
from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver


class MLEMState(NamedTuple):
    x: torch.Tensor
    sensitivity: torch.Tensor  # A^T 1


@dataclass(frozen=True, kw_only=True)
class MLEM(Solver):
    """x+ = x / A^T 1 · A^T(y / (gain·A x + background)): EM for Poisson data (Shepp & Vardi 1982).

    Needs a non-negative operator; keeps x ≥ 0; the likelihood never decreases. Starts from a constant image. Pixels
    that no measurement sees stay at 0.
    """

    n_steps: PositiveInt = 50
    tol: NonNegativeFloat | None = None

    needs = {"operator": ("linear",), "likelihood": ("poisson",)}

    def init(self, problem: Problem, prior: None, rng: torch.Generator, x0: torch.Tensor | None = None) -> MLEMState:
        operator: Any = problem.operator
        likelihood = problem.likelihood
        assert isinstance(likelihood, Poisson)
        sensitivity = operator.adjoint(torch.ones_like(problem.y))
        if bool((sensitivity < -1e-5 * sensitivity.abs().max()).any()):
            raise SpecError("MLEM needs an operator without negative entries; use pdhg with the priors you want.")
        if x0 is not None:
            if bool((x0 < 0).any()):
                raise SpecError("MLEM: x0 must be ≥ 0.")
            return MLEMState(x0.clone(), sensitivity)
        seen = (sensitivity > 0).to(problem.in_dtype)
        signal = (problem.y - likelihood.background).clamp_min(0).flatten(1).sum(1) / likelihood.gain
        level = signal / operator(seen).flatten(1).sum(1)  # the flat image with the measured total
        floor = torch.where(level > 0, level, torch.ones_like(level) / likelihood.gain)
        return MLEMState(seen * floor.reshape(-1, *[1] * (seen.ndim - 1)), sensitivity)

    def step(self, problem: Problem, prior: None, state: MLEMState, k: int, rng: torch.Generator):
        operator: Any = problem.operator
        likelihood = problem.likelihood
        assert isinstance(likelihood, Poisson)
        x, sensitivity = state
        rate = likelihood.gain * operator(x) + likelihood.background
        ratio = torch.where(problem.y > 0, problem.y / rate, torch.zeros_like(rate))
        seen = sensitivity > 0
        update = operator.adjoint(ratio).clamp_min(0) / torch.where(seen, sensitivity, torch.ones_like(x))
        nll = (rate - torch.xlogy(problem.y, rate)).flatten(1).sum(1)
        return MLEMState(torch.where(seen, x * update, torch.zeros_like(x)), sensitivity), {"nll": nll}

    @classmethod
    def example(cls) -> Self:
        return cls(n_steps=20)
