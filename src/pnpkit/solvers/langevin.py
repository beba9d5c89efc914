"""Langevin steps for data terms without a closed form."""

import torch

from pnpkit.likelihoods import randn_like
from pnpkit.linalg import expand, inner
from pnpkit.problem import Problem
from pnpkit.solvers.steps import curvature, data_gradient

CAUTION = 0.3  # of the longest stable step: the bias of unadjusted steps grows with it


def conditional(
    problem: Problem, centre: torch.Tensor, variance: torch.Tensor, inner_steps: int, rng: torch.Generator
) -> torch.Tensor:
    """A draw of x from exp(−nll(x) − ‖x − centre‖²/(2·variance)), variance (B,).

    Exact (perturb-and-solve) for linear operators with Gaussian noise; else ``inner_steps`` Langevin steps.
    """
    if problem.quadratic:
        return problem.sample(centre, variance, rng)
    return langevin(problem, centre, variance, inner_steps, rng)


def langevin(
    problem: Problem, centre: torch.Tensor, variance: torch.Tensor, n_steps: int, rng: torch.Generator
) -> torch.Tensor:
    """Unadjusted Langevin steps from ``centre`` on nll(x) + ‖x − centre‖²/(2·variance).

    The step is CAUTION/(1/variance + L), L the largest curvature of nll met so far: along the gradient at the start,
    then between successive gradients. PnP-DM (Wu et al. 2024) does as much with steps set by hand.
    """
    x, gradient = centre, data_gradient(problem, centre)
    steep = curvature(problem, x, gradient)
    for _ in range(n_steps):
        step = CAUTION / (1 / variance + steep)
        drift = gradient + (x - centre) / expand(variance, x)
        new = x - expand(step, x) * drift + expand((2 * step).sqrt(), x) * randn_like(x, rng)
        ahead = data_gradient(problem, new)
        change, away = ahead - gradient, new - x
        steep = torch.maximum(steep, (inner(change, change) / inner(away, away)).sqrt())
        x, gradient = new, ahead
    return x
