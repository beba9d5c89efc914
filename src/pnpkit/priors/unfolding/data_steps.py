"""The steps in which an unrolled scheme sees the operator: exact (proximal) or by one normalised gradient."""

from typing import Any

import torch

from pnpkit.errors import CapabilityError
from pnpkit.linalg import expand, inner
from pnpkit.problem import Problem, ProblemGroup

AnyProblem = Problem | ProblemGroup


def require_quadratic(problem: AnyProblem) -> None:
    """CapabilityError where there is no proximal step to unroll."""
    if not problem.quadratic:
        raise CapabilityError(
            "Unrolled posterior denoisers need a linear operator and Gaussian noise of known sigma: their data step "
            "is a proximal step. Use a gradient solver or a sampler with a plain denoiser (dps, red, pgd)."
        )


def proximal(
    problem: AnyProblem, x: torch.Tensor, near: torch.Tensor, anchor: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """argmin_v nll(v) + anchor/2·‖v − x‖² + weight/2·‖v − near‖²; anchor and weight (B,), ≥ 0 and > 0.

    Closed form where the operator has one, else by CG, which warns when it stops early.
    """
    total = anchor + weight
    centre = expand(anchor / total, x) * x + expand(weight / total, x) * near
    if torch.is_grad_enabled() and not _has_live_parameters(problem):
        return Prox.apply(centre, 1 / total, problem)
    return problem.prox(centre, 1 / total)


def gradient(
    problem: AnyProblem, x: torch.Tensor, near: torch.Tensor, anchor: torch.Tensor, step: torch.Tensor
) -> torch.Tensor:
    """near − step·∇h(near)/L with h(v) = nll(v) + anchor/2·‖v − x‖² and L its Lipschitz constant; step (B,) in (0, 2).

    Dividing by L makes the step free of the units of y and of the operator's scale.
    """
    slope = problem.grad(near) + expand(anchor, x) * (near - x)
    return near - expand(step / (problem.lipschitz + anchor), x) * slope


class Prox(torch.autograd.Function):
    """problem.prox(z, tau) with its exact derivative in z and tau: one more solve, nothing kept of CG's iterations.

    v = (I + tau·N)⁻¹(z + tau·b): the derivative in z is (I + tau·N)⁻¹, Hermitian; that in tau is
    (I + tau·N)⁻¹(b − N v) = (I + tau·N)⁻¹(v − z)/tau.
    """

    @staticmethod
    def forward(z: torch.Tensor, tau: torch.Tensor, problem: Any) -> torch.Tensor:  # type: ignore[override]
        with torch.no_grad():
            return problem.prox(z, tau)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        z, tau, problem = inputs
        ctx.problem = problem
        ctx.save_for_backward(z, tau, output)

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:  # type: ignore[override]
        z, tau, v = ctx.saved_tensors
        back = ctx.problem.homogeneous.prox(slope.contiguous(), tau)
        return back, inner(back, v - z) / tau, None


def _has_live_parameters(problem: AnyProblem) -> bool:
    """Whether a gradient in the operator's parameters is wanted, which ``Prox`` does not give."""
    parts = problem.problems if isinstance(problem, ProblemGroup) else (problem,)
    tensors = [t for p in parts for t in (p.y, *p.operator.buffers(), *p.likelihood.buffers())]
    return any(t.requires_grad for t in tensors)
