"""What solvers of blind problems share: the unknown parameter, and how improbable a solution is."""

import torch

from pnpkit.errors import SpecError
from pnpkit.priors.base import Priors
from pnpkit.problem import Problem
from pnpkit.solvers.schedules import prior_energy, width


def parameter_name(given: str | None, problem: Problem) -> str:
    """The parameter that is unknown: ``given``, or the operator's only one."""
    known = list(problem.operator.theta)
    if given is None and len(known) == 1:
        return known[0]
    if given not in known:
        told = "it must be named" if given is None else f"given {given!r}"
        raise SpecError(f"{type(problem.operator).__name__} has the parameters {known}; {told}: parameter=….")
    return given


def present(problem: Problem, name: str) -> torch.Tensor:
    """The operator's own value of a parameter, one for every sample, (B, *event)."""
    value = problem.operator._get(name)
    rank = problem.operator.theta[name]
    event = value.shape[value.ndim - rank :]
    return value.expand(problem.batch, *event).clone()


def finest(problem: Problem, prior: Priors, x: torch.Tensor, theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scales of image and parameter below which the data tell nothing, (B,) each: the noise level per pixel of x (a
    twentieth of its range where that is not known), and 0.9/√n of the range of n numbers of the parameter.
    """
    of_x = problem.noise_level if problem.quadratic else 0.05 * width(prior, x)
    return of_x, 0.9 * width(prior["theta"], theta) / theta[0].numel() ** 0.5


def joint_energy(
    problem: Problem,
    prior: Priors,
    name: str,
    x: torch.Tensor,
    theta: torch.Tensor,
    scales: tuple[torch.Tensor, torch.Tensor],
    rng: torch.Generator,
) -> torch.Tensor:
    """−log p(y, x, theta) up to a constant, (B,): nll plus the energies of both priors above ``scales``."""
    value = problem.at(**{name: theta}).nll(x)
    for part, found, scale in zip((prior["x"], prior["theta"]), (x, theta), scales, strict=True):
        value = value + prior_energy(part, found, scale, rng)
    return value
