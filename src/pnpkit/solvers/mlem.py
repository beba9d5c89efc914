"""Maximum likelihood for counts."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from pydantic import NonNegativeFloat, PositiveInt

from pnpkit.errors import CapabilityError, DataError, SpecError
from pnpkit.linalg import expand
from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver


class MLEMState(NamedTuple):
    x: torch.Tensor
    sensitivities: tuple[torch.Tensor, ...]  # A_s^T 1 for each subset s


@dataclass(frozen=True, kw_only=True)
class MLEM(Solver):
    """x+ = x / A^T 1 · A^T(y / (gain·A x + background)): EM for Poisson data (Shepp & Vardi 1982).

    Minimises nll over x ≥ 0 for operators without negative entries; nll never rises. Starts from a flat image with
    the measured total; pixels that nothing measures stay at 0, and zeros of x0 stay zeros.

    subsets : ordered subsets (OSEM, Hudson & Larkin 1994): step k uses every ``subsets``-th measurement along the
        operator's ``row_axis``, from the k-th on. About ``subsets`` times faster at first; then it circles around the
        minimiser, and nll may rise.
    """

    n_steps: PositiveInt = 50
    tol: NonNegativeFloat | None = None
    subsets: PositiveInt = 1

    needs = {"operator": ("linear",), "likelihood": ("poisson",)}

    def init(self, problem: Problem, prior: None, rng: torch.Generator, x0: torch.Tensor | None = None) -> MLEMState:
        if problem.in_dtype.is_complex:
            raise CapabilityError("MLEM: emissions are real and ≥ 0, these images are complex.")
        parts = [self._part(problem, s) for s in range(self.subsets)]
        sensitivities = tuple(_sensitivity(p) for p in parts)
        if x0 is not None:
            if bool((x0 < 0).any()):
                raise DataError(f"MLEM: x0 must be ≥ 0, its smallest value is {float(x0.min()):.3g}.")
            return MLEMState(x0.clone(), sensitivities)
        operator: Any = problem.operator
        seen = (torch.stack(sensitivities).sum(0) > 0).to(problem.in_dtype)
        signal = problem.likelihood.invert(problem.y).flatten(1).sum(1)
        flat = operator(seen).flatten(1).sum(1)
        level = signal / flat
        # Fewer counts than the background: start from one count in all rather than from 0, where EM stays.
        one_count = problem.likelihood.invert(torch.ones_like(problem.y)).abs().flatten(1).mean(1) / flat
        return MLEMState(seen * expand(torch.where(level > 0, level, one_count), seen), sensitivities)

    def _part(self, problem: Problem, s: int) -> Problem:
        """The s-th subset of the measurements."""
        if self.subsets == 1:
            return problem
        n = problem.operator.out_shape[problem.operator.row_axis]
        if self.subsets > n:
            raise SpecError(f"MLEM: {self.subsets} subsets of {n} measurements along axis {problem.operator.row_axis}.")
        return problem.rows(torch.arange(s, n, self.subsets, device=problem.device))

    def step(self, problem: Problem, prior: None, state: MLEMState, k: int, rng: torch.Generator):
        x, sensitivities = state
        part, sensitivity = self._part(problem, k % self.subsets), sensitivities[k % self.subsets]
        operator: Any = part.operator
        likelihood: Any = part.likelihood
        rate = likelihood.rate(operator(x))
        ratio = torch.where(part.y > 0, part.y / rate, 0)
        seen = sensitivity > 0
        # Engines' rounding may give small negatives; x stays ≥ 0 as EM's does.
        update = operator.adjoint(ratio).clamp_min(0) / torch.where(seen, sensitivity, 1)
        nll = (rate - torch.xlogy(part.y, rate)).flatten(1).sum(1)
        return MLEMState(torch.where(seen, x * update, x), sensitivities), {"nll": nll}

    @classmethod
    def example(cls) -> Self:
        return cls(n_steps=20)


def _sensitivity(problem: Problem) -> torch.Tensor:
    operator: Any = problem.operator
    s = operator.adjoint(torch.ones_like(problem.y))
    if bool((s < -1e-5 * s.abs().max()).any()):
        raise CapabilityError(
            f"MLEM needs an operator without negative entries; A^T 1 of this {type(operator).__name__} reaches "
            f"{float(s.min()):.3g}. Use pdhg with the prior 'box'."
        )
    return s
