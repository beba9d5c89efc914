"""Pieces that several solvers share."""

from typing import Any

import torch

from pnpkit.errors import CapabilityError, SpecError
from pnpkit.linalg import expand, norm
from pnpkit.priors.base import Denoiser, Priors, Proximable
from pnpkit.problem import Problem


def start(problem: Problem, x0: torch.Tensor | None, rng: torch.Generator) -> torch.Tensor:
    """The warm start, or the operator's own starting image; always a tensor of our own."""
    return problem.operator.initial(problem.y, rng) if x0 is None else x0.clone()


def on_x(prior: Any) -> Any:
    """The prior on the image."""
    return prior["x"] if isinstance(prior, Priors) else prior


def prior_step(prior: Any, z: torch.Tensor, tau: torch.Tensor, sigma: float | torch.Tensor | None) -> torch.Tensor:
    """prox of tau·h for a Proximable; D(z, sigma) for a denoiser, whose strength is its own."""
    part = on_x(prior)
    if isinstance(part, Proximable):
        return part.prox(z, tau)
    if sigma is None:
        raise SpecError(
            f"{type(part).__name__} is a denoiser: give the solver its strength, sigma=… (noise std in units of x)."
        )
    return part.denoise(z, sigma)


def fitted_sigma(prior: Any, sigma: float) -> float:
    """``sigma`` moved into the denoiser's range; as it is for other priors."""
    part = on_x(prior)
    return part.fit_sigma(sigma) if isinstance(part, Denoiser) else sigma


def noise_level(problem: Problem) -> torch.Tensor:
    """Standard deviation of the noise in units of x, (B,): sigma/‖A‖; Gaussian noise, linear operator."""
    return problem.lipschitz.rsqrt()


def gradient_step(
    problem: Problem, x: torch.Tensor, gradient: torch.Tensor, step: torch.Tensor, finish, shrink: float = 0.5, tries: int = 40
) -> tuple[torch.Tensor, torch.Tensor]:
    """(x+, step) with x+ = finish(x − step·gradient, step): per-sample backtracking (Beck & Teboulle 2009, eq. 2.6).

    The quadratic model at x must bound nll(x+); a sample whose model holds keeps its step.
    """
    value = problem.nll(x)
    for _ in range(tries):
        new = finish(x - expand(step, x) * gradient, step)
        d = new - x
        slope = torch.linalg.vecdot(gradient.flatten(1), d.flatten(1)).real
        # A rounding allowance relative to the value: near convergence the two sides differ by less.
        bound = value + slope + norm(d) ** 2 / (2 * step) + 1e-6 * value.abs()
        ok = problem.nll(new) <= bound
        if bool(ok.all()):
            break
        step = torch.where(ok, step, shrink * step)
    return new, step


def lipschitz_step(problem: Problem, relative: float) -> torch.Tensor | None:
    """relative/L, (B,), where the data term is quadratic; None where a step must be searched."""
    try:
        return relative / problem.lipschitz
    except CapabilityError:
        return None


def first_step(problem: Problem, x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """A step to start a search from: the model's best multiple, scaled by image and gradient, (B,)."""
    size, slope = norm(x), norm(gradient)
    tiny = torch.finfo(size.dtype).tiny
    return torch.where(size > 0, size, torch.ones_like(size)) / slope.clamp_min(tiny)
