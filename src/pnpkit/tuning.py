"""Helpers of a practitioner: noise level, coil whitening, strength of the regularisation."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from pnpkit.errors import CapabilityError, DataError, ShapeError, SpecError
from pnpkit.likelihoods import randn_like
from pnpkit.linalg import inner, norm
from pnpkit.operators.diagonal import Diagonal
from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver, solve


def estimate_sigma(x: torch.Tensor) -> torch.Tensor:
    """Noise standard deviation of each real component, (B,), from images (B, C, H, W) with white noise.

    Median absolute value of the finest diagonal Haar details over 0.6745 (Donoho & Johnstone 1994), over all
    channels. Of k-space take a corner without signal instead.
    """
    if x.ndim != 4 or min(x.shape[-2:]) < 2:
        raise ShapeError(f"estimate_sigma: images are (B, C, H, W), given {tuple(x.shape)}.")
    height, width = (n - n % 2 for n in x.shape[-2:])
    x = x[..., :height, :width]
    detail = (x[..., ::2, ::2] - x[..., ::2, 1::2] - x[..., 1::2, ::2] + x[..., 1::2, 1::2]) / 2
    detail = torch.view_as_real(detail) if x.is_complex() else detail
    return detail.abs().flatten(1).median(1).values / 0.6744897501960817


def whiten_coils(kspace: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(whitened k-space, W): W = L^-1 with L L^H the coils' noise covariance, so noise becomes white of sigma 1.

    kspace : (B, coils, …) or (coils, …), complex.
    noise : (coils, n) complex samples without signal, n ≥ coils (Pruessmann et al. 2001, Kellman & McVeigh 2005).
    Apply W to the maps too: ``torch.einsum("dc,chw->dhw", W, maps)``.
    """
    if noise.ndim != 2 or not noise.is_complex() or noise.shape[1] < noise.shape[0]:
        raise ShapeError(
            f"whiten_coils: noise is complex (coils, n) with n ≥ coils, given {tuple(noise.shape)} {noise.dtype}."
        )
    axis = [i for i, n in enumerate(kspace.shape) if n == noise.shape[0]][:1]
    if not axis or axis[0] > 1:
        raise ShapeError(f"whiten_coils: k-space {tuple(kspace.shape)} has no coil axis of {noise.shape[0]}.")
    covariance = noise @ noise.mH / (2 * noise.shape[1])  # of each real component
    factor, info = torch.linalg.cholesky_ex(covariance)
    if int(info):
        raise DataError("whiten_coils: the noise covariance is singular: a coil is dead or duplicated; remove it.")
    eye = torch.eye(noise.shape[0], dtype=noise.dtype, device=noise.device)
    whitening = torch.linalg.solve_triangular(factor, eye, upper=False)
    moved = torch.tensordot(whitening, kspace.movedim(axis[0], 0), dims=1)
    return moved.movedim(0, axis[0]), whitening


@dataclass(frozen=True)
class Choice:
    """The best weight, and the score of every candidate (smaller is better)."""

    weight: float
    scores: dict[float, float]
    rule: str


def choose_weight(
    problem: Problem,
    make_prior: Callable[[float], Any],
    solver: Solver,
    weights: Sequence[float],
    rule: Literal["discrepancy", "sure", "heldout"] = "discrepancy",
    seed: int = 0,
    fraction: float = 0.1,
) -> Choice:
    """The regularisation strength, from the data alone; Gaussian noise, linear operator.

    rule : "discrepancy" — ‖A x − y‖²/sigma² nearest to the number of measurements (Morozov 1966), where all of them
        carry information; "sure" — Monte-Carlo SURE of the predicted measurements ‖A x − A x_true‖² (Ramani, Blu &
        Unser 2008): two solves a weight; "heldout" — error on a random ``fraction`` of y kept from the solver.
    """
    if not weights or any(not 0 < w < math.inf for w in weights):
        raise SpecError(f"choose_weight: weights must be finite and > 0, given {list(weights)}.")
    if problem.likelihood.name != "gaussian":
        raise CapabilityError("choose_weight needs Gaussian noise: its rules compare residuals with sigma.")
    score = {"discrepancy": _discrepancy, "sure": _sure, "heldout": _heldout}.get(rule)
    if score is None:
        raise SpecError(f"choose_weight: rule is 'discrepancy', 'sure' or 'heldout', given {rule!r}.")
    scores = {float(w): score(problem, make_prior(w), solver, seed, fraction) for w in weights}
    return Choice(min(scores, key=scores.__getitem__), scores, rule)


def _std(problem: Problem) -> torch.Tensor:
    return problem.likelihood.std(problem.y).expand(problem.y.shape)  # type: ignore[attr-defined,operator]


def _count(y: torch.Tensor) -> int:
    """Real numbers in a measurement."""
    return y.numel() * (2 if y.is_complex() else 1)


def _discrepancy(problem: Problem, prior: Any, solver: Solver, seed: int, fraction: float) -> float:
    x = solve(problem, prior, solver, seed).x
    residual = float((((problem.operator(x) - problem.y) / _std(problem)).abs() ** 2).sum())
    return abs(math.log(residual / _count(problem.y)))


def _sure(problem: Problem, prior: Any, solver: Solver, seed: int, fraction: float) -> float:
    std = _std(problem)
    # Not ``seed`` itself: data simulated with the same seed would make the probe equal to its noise.
    rng = torch.Generator(problem.device).manual_seed(seed + 0x5EED_0F_5)
    probe = randn_like(problem.y, rng)
    step = 0.1  # of the noise: large enough to see over the solver's own tolerance
    fits = []
    for y in (problem.y, problem.y + step * std * probe):
        moved = Problem(problem.operator, problem.likelihood, y)
        fits.append(problem.operator(solve(moved, prior, solver, seed).x) / std)
    divergence = float(inner(probe, fits[1] - fits[0]).sum()) / step
    return float((norm(fits[0] - problem.y / std) ** 2).sum()) - _count(problem.y) + 2 * divergence


def _heldout(problem: Problem, prior: Any, solver: Solver, seed: int, fraction: float) -> float:
    if not 0 < fraction < 1:
        raise SpecError(f"choose_weight: fraction is the part of y held out, in (0, 1); given {fraction}.")
    rng = torch.Generator(problem.device).manual_seed(seed)
    real = problem.operator.dtype
    keep = (torch.rand(problem.operator.out_shape, generator=rng, device=problem.device) >= fraction).to(real)
    selection = Diagonal(weight=keep, shape=problem.operator.out_shape, complex=problem.y.is_complex())
    part = Problem(selection @ problem.operator, problem.likelihood, keep * problem.y)
    x = solve(part, prior, solver, seed).x
    error = (1 - keep) * (problem.operator(x) - problem.y) / _std(problem)
    return float((error.abs() ** 2).sum())
