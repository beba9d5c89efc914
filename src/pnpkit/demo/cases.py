"""One degraded image and the methods that restore it."""

import time
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from pnpkit.composition import compose
from pnpkit.likelihoods import Likelihood
from pnpkit.metrics.image import psnr, ssim
from pnpkit.operators.base import LinearOperator
from pnpkit.solvers.base import Step


@dataclass(frozen=True)
class Method:
    """A named prior and solver."""

    name: str
    prior: Any
    solver: Any


@dataclass(frozen=True)
class Case:
    """A measurement y (1, *out_shape) of a known or reference image x (1, *in_shape).

    ``support`` (1, *in_shape), boolean: where the figures are computed (SSIM: zero outside); None for everywhere.
    """

    title: str
    operator: LinearOperator
    noise: Likelihood
    x: torch.Tensor
    y: torch.Tensor
    methods: tuple[Method, ...]
    text: str = ""
    support: torch.Tensor | None = None


@dataclass
class Row:
    """What one method did."""

    method: str
    psnr: float
    ssim: float
    seconds: float
    steps: int
    calls: dict[str, int]
    notes: list[str]
    image: torch.Tensor  # (C, H, W) in [0, 1] of the reference's peak
    trace: list[tuple[float, float]] = field(default_factory=list)  # (seconds, PSNR) per step


@dataclass
class Outcome:
    """A case and its rows; ``seen`` is the picture of the measurement."""

    case: Case
    rows: list[Row]
    truth: torch.Tensor
    seen: torch.Tensor
    peak: float


def simulate(
    title: str, operator: LinearOperator, noise: Likelihood, x: torch.Tensor, methods, text: str = "", seed: int = 0
) -> Case:
    """A case whose measurement is made here."""
    y = noise.sample(operator(x), torch.Generator().manual_seed(seed))
    return Case(title, operator, noise, x, y, tuple(methods), text)


def run_case(case: Case, quick: bool = False) -> Outcome:
    """Run every method; PSNR against the peak of the reference's magnitude."""
    truth = _real(case.x)
    peak = float(truth.max())
    rows = [_run(case, m, truth, peak, quick) for m in case.methods]
    seen = (
        _real(case.operator.initial(case.y)) if case.y.shape[1:] != case.x.shape[1:] or case.y.is_complex() else case.y
    )
    return Outcome(case, rows, _shown(truth, peak), _shown(seen, peak), peak)


def _run(case: Case, method: Method, truth: torch.Tensor, peak: float, quick: bool) -> Row:
    solver = replace(method.solver, n_steps=min(method.solver.n_steps, 3)) if quick else method.solver
    trace: list[tuple[float, float]] = []
    spent = 0.0

    def watch(step: Step) -> None:
        nonlocal spent
        now = time.perf_counter()
        trace.append((now - began - spent, _psnr(case, step.x, truth, peak)))
        spent += time.perf_counter() - now  # measuring is not solving

    reconstruct = compose(case.operator, method.prior, solver, case.noise)
    began = time.perf_counter()
    result = reconstruct(case.y, progress=watch)
    x = _real(result.x)
    return Row(
        method=method.name,
        psnr=_psnr(case, result.x, truth, peak),
        ssim=_ssim(case, x, truth, peak),
        seconds=result.seconds - spent,
        steps=result.steps,
        calls=result.calls,
        notes=result.notes,
        image=_shown(x, peak),
        trace=trace,
    )


def _psnr(case: Case, x: torch.Tensor, truth: torch.Tensor, peak: float) -> float:
    image = _real(x)
    if case.support is not None:
        image, truth = image[case.support][None], truth[case.support][None]
    return float(psnr(image, truth, data_range=peak).mean())


def _ssim(case: Case, image: torch.Tensor, truth: torch.Tensor, peak: float) -> float:
    inside = 1 if case.support is None else case.support
    return float(ssim(image * inside, truth * inside, data_range=peak).mean())


def _real(x: torch.Tensor) -> torch.Tensor:
    return x.abs() if x.is_complex() else x


def _shown(x: torch.Tensor, peak: float) -> torch.Tensor:
    return (x[0] / peak).clamp(0, 1)
