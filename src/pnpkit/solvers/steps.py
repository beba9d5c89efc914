"""Pieces that several solvers share: starting images, prior steps, and step sizes."""

from collections.abc import Callable
from typing import Any

import torch

from pnpkit.errors import CapabilityError, SpecError
from pnpkit.likelihoods import randn_like
from pnpkit.linalg import expand, inner, norm
from pnpkit.operators.base import LinearOperator
from pnpkit.priors.base import Denoiser, Priors, Proximable
from pnpkit.problem import Problem

GROWTH = 1.25  # a searched step is tried this much longer next time; halved when it fails
TRIES = 60


def start(problem: Problem, x0: torch.Tensor | None, rng: torch.Generator) -> torch.Tensor:
    """The warm start, or a starting image from the data; always a tensor of our own, (B, *in_shape).

    For counts it is lifted to where they have a density: to 1% of its mean, or to 0 where that is not enough.
    """
    if x0 is not None:
        return x0.clone()
    x = problem.initial(rng)
    if problem.likelihood.name == "gaussian" or not isinstance(problem.operator, LinearOperator) or x.is_complex():
        return x
    x = torch.maximum(x, expand(0.01 * x.abs().flatten(1).mean(1), x))
    return torch.where(expand(problem.likelihood.feasible(problem.operator(x)), x), x, 0)


def on_x(prior: Any) -> Any:
    """The prior on the image."""
    return prior["x"] if isinstance(prior, Priors) else prior


def injected(z: torch.Tensor, sigma: torch.Tensor, share: float, rng: torch.Generator) -> torch.Tensor:
    """z + share·sigma·n: noise put in before a denoiser is called at sigma (SGPnP, arXiv 2604.03603, with share 1)."""
    return z + share * expand(sigma, z) * randn_like(z, rng) if share else z


def prior_step(prior: Any, z: torch.Tensor, tau: torch.Tensor, sigma: float | torch.Tensor | None) -> torch.Tensor:
    """prox of tau·h for a Proximable; D(z, sigma) for a denoiser, whose strength is its own."""
    part = on_x(prior)
    return part.prox(z, tau) if isinstance(part, Proximable) else part.denoise(z, _given(part, sigma))


def check_sigma(prior: Any, sigma: float | None) -> None:
    """SpecError, at ``init``, for a denoiser without its strength."""
    part = on_x(prior)
    if isinstance(part, Denoiser):
        _given(part, sigma)


def _given(part: Any, sigma: Any) -> Any:
    if sigma is None:
        raise SpecError(
            f"{type(part).__name__} is a denoiser: give the solver its strength, sigma=… (noise std in units of x). "
            "About the noise level in units of x is a start; pk.tuning.estimate_sigma estimates it."
        )
    return sigma


# --- gradients of the data term, for images that may leave its domain ---


def data_gradient(problem: Problem, x: torch.Tensor) -> torch.Tensor:
    """∇nll(x), (B, *in_shape), with rates next to zero raised (``Likelihood.admitted``)."""
    z = problem.likelihood.admitted(problem.operator(x), problem.y)
    return problem.operator.vjp(x, problem.likelihood.grad(z, problem.y))


def data_pull(problem: Problem, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``data_gradient``, and the squared misfit behind it in units of the noise: Σ |∇_z nll|²/w, (B,), z = A(x).

    w is the inverse variance of y (``Likelihood.weights``). Only of what x reaches: where z = 0 (masked pixels, rays
    beside the image) y holds noise at most.
    """
    z = problem.operator(x)
    gradient = problem.likelihood.grad(problem.likelihood.admitted(z, problem.y), problem.y)
    squares = gradient.abs().square() / problem.likelihood.weights(problem.y)
    return problem.operator.vjp(x, gradient), torch.where(z != 0, squares, 0).flatten(1).sum(1)


def curvature(problem: Problem, x: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """⟨d, H d⟩/⟨d, d⟩ with the Gauss–Newton Hessian H = JᴴWJ of nll at x and W estimated from y, (B,).

    J d is A d for linear operators, else a difference of a hundredth of x; 0 for d = 0.
    """
    square = inner(direction, direction)
    if isinstance(problem.operator, LinearOperator):
        image, factor = problem.operator(direction), 1.0
    else:
        factor = 0.01 * (norm(x) / square.sqrt().clamp_min(torch.finfo(square.dtype).tiny))
        image = problem.operator(x + expand(factor, x) * direction) - problem.operator(x)
    steep = (problem.likelihood.weights(problem.y) * image.abs().square()).flatten(1).sum(1) / factor**2
    return torch.where(square > 0, steep / torch.where(square > 0, square, 1), 0)


def steepest(problem: Problem, x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """The largest curvature of nll, (B,): of a quadratic one its Lipschitz constant, else that along the gradient."""
    if problem.quadratic:
        return problem.lipschitz
    return curvature(problem, x, gradient)


def denoised_with_vjp(
    prior: Any, x: torch.Tensor, sigma: torch.Tensor
) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
    """D(x, sigma), and v -> Jᴴv with its Jacobian, to be called once; works with gradients switched off.

    CapabilityError for a denoiser through which no gradient passes.
    """
    wanted = torch.is_grad_enabled()  # by the caller, of what comes out
    with torch.enable_grad():
        z = x if wanted and x.requires_grad else x.detach().requires_grad_()
        clean = on_x(prior).denoise(z, sigma)
    if not clean.requires_grad:
        raise CapabilityError(
            f"No gradient passes through {type(on_x(prior)).__name__}, which this solver needs; does it switch "
            "gradients off? Let it keep them, or choose a solver that only denoises, as diffpir or daps."
        )

    def back(v: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(clean, z, v, create_graph=wanted)[0]

    return clean if wanted else clean.detach(), back


# --- forward-backward steps ---

Finish = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (x − γ∇nll, γ) -> x+


def first_step(problem: Problem, x: torch.Tensor, relative: float) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(γ, z): relative/L and None where the data term is quadratic; elsewhere a first guess and z = A(x).

    The guess is ‖x‖/‖∇nll(x)‖, which scales with the images as γ must.
    """
    try:
        return relative / problem.lipschitz, None
    except CapabilityError:
        z = problem.operator(x)
    size, slope = norm(x), norm(_gradient(problem, x, z))
    if not bool((size > 0).all()):
        size = torch.where(size > 0, size, norm(problem.initial(torch.Generator(x.device).manual_seed(0))))
    return size / slope.clamp_min(torch.finfo(slope.dtype).tiny), z


def forward_backward(
    problem: Problem,
    x: torch.Tensor,  # (B, *in_shape)
    z: torch.Tensor | None,  # A(x) where γ is searched, None where it is fixed
    step: torch.Tensor,  # γ, (B,)
    prior: Any = None,
    sigma: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor, torch.Tensor]:
    """(x+, A(x+), γ, ∇nll(x)) with x+ = prior(x − γ·∇nll(x)); the search halves γ, per sample.

    A prox takes part in the search; a denoiser, which has no γ, comes after it.
    """
    if z is None:
        gradient = problem.grad(x)
        ahead = x - expand(step, x) * gradient
        return (ahead if prior is None else prior_step(prior, ahead, step, sigma)), None, step, gradient
    gradient = _gradient(problem, x, z)
    if prior is None or isinstance(on_x(prior), Proximable):
        finish = (lambda v, _: v) if prior is None else (lambda v, tau: prior_step(prior, v, tau, sigma))
        return (*_searched(problem, x, z, gradient, step, finish), gradient)
    ahead, _, step = _searched(problem, x, z, gradient, step, lambda v, _: v)
    new = prior_step(prior, ahead, step, sigma)
    return new, problem.operator(new), step, gradient


def _gradient(problem: Problem, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """∇nll(x) from z = A(x)."""
    return problem.operator.vjp(x, problem.likelihood.grad(z, problem.y))


def _searched(
    problem: Problem, x: torch.Tensor, z: torch.Tensor, gradient: torch.Tensor, step: torch.Tensor, finish: Finish
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(x+, A(x+), γ): the longest of γ, γ/2, γ/4, … whose step ``_short_enough`` accepts; x itself when none is."""
    new, image = x, z
    done = torch.zeros(x.shape[0], dtype=torch.bool, device=x.device)
    for _ in range(TRIES):
        trial = finish(x - expand(step, x) * gradient, step)
        measured = problem.operator(trial)
        fits = _short_enough(problem, x, z, gradient, step, trial, measured)
        take = fits & ~done
        new, image = torch.where(expand(take, x), trial, new), torch.where(expand(take, z), measured, image)
        done = done | fits
        if bool(done.all()):
            break
        step = torch.where(done, step, step / 2)
    return new, image, step


def _short_enough(
    problem: Problem,
    x: torch.Tensor,
    z: torch.Tensor,
    gradient: torch.Tensor,
    step: torch.Tensor,
    new: torch.Tensor,
    image: torch.Tensor,
) -> torch.Tensor:
    """(B,): whether 1/γ bounds the curvature of nll along the step d = x+ − x.

    Linear operators: ⟨∇l(z+) − ∇l(z), z+ − z⟩ ≤ ‖d‖²/γ, with l the nll in z. As nll is convex, nll + h then decreases
    (prox inequality), and no two large numbers are subtracted. Others: the quadratic model at x bounds nll(x+)
    (Beck & Teboulle 2009, eq. 2.6). NaN is accepted: the sample has diverged, and a search would not end.
    """
    likelihood, y, d = problem.likelihood, problem.y, new - x
    feasible = likelihood.feasible(image)
    image = torch.where(expand(feasible, z), image, z)
    square = inner(d, d) / step
    if isinstance(problem.operator, LinearOperator):
        excess = inner(likelihood.grad(image, y) - likelihood.grad(z, y), image - z) - square
        return feasible & ~(excess > 0)
    value = likelihood.nll(z, y)
    rounding = 10 * torch.finfo(value.dtype).eps * value.abs()
    excess = likelihood.nll(image, y) - value - inner(gradient, d) - square / 2
    return feasible & ~(excess > rounding)
