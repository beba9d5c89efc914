"""Small problems whose answers other software knows, and solvers and priors that misbehave on purpose."""

from dataclasses import dataclass

import numpy as np
import torch
from pydantic import PositiveFloat, PositiveInt

from pnpkit.likelihoods import Gaussian, Poisson, randn_like
from pnpkit.linalg import expand
from pnpkit.operators.base import LinearOperator
from pnpkit.priors.base import Denoiser
from pnpkit.problem import Problem

from ..operators.toys_contracts import Dense
from ..toys_solvers import Landweber

SHAPE = (1, 3, 4)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dense(rows: int = 18, shape=SHAPE, dtype=torch.float64, positive: bool = False, seed: int = 1) -> Dense:
    n = int(np.prod(shape))
    entries = torch.randn(rows, n, dtype=dtype, generator=rng(seed)) / n**0.5
    return Dense(entries=entries.abs() if positive else entries, shape=shape)


def sigmas(kind: str, n: int, out: int) -> torch.Tensor:
    """Noise levels: one number, one per sample, or one per element."""
    if kind == "number":
        return torch.tensor(0.2, dtype=torch.float64)
    size = (n,) if kind == "sample" else (n, out)
    return 0.1 + 0.4 * torch.rand(size, dtype=torch.float64, generator=rng(7))


def least_squares(
    kind: str = "number", dtype=torch.float64, n: int = 3, operator: LinearOperator | None = None
) -> Problem:
    operator = dense(dtype=dtype) if operator is None else operator
    x = torch.randn(n, *operator.in_shape, dtype=operator.in_dtype, generator=rng(2))
    y = operator(x)
    y = y + 0.1 * torch.randn(y.shape, dtype=y.dtype, generator=rng(3))
    return Problem(operator, Gaussian(sigma=sigmas(kind, n, operator.out_shape[-1])).double(), y)


def counts(operator: LinearOperator | None = None, gain: float = 50.0, background: float = 2.0, n: int = 3) -> Problem:
    operator = dense(positive=True) if operator is None else operator
    x = 0.2 + torch.rand(n, *operator.in_shape, dtype=torch.float64, generator=rng(4))
    likelihood = Poisson(gain=gain, background=background).double()
    return Problem(operator, likelihood, likelihood.sample(operator(x), rng(5)))


def normal_equations(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """(H, b) with ∇nll(x) = H x − b, (B, n, n) and (B, n), by NumPy alone."""
    a = problem.operator.entries.numpy()
    y = problem.y.numpy()
    weight = np.broadcast_to(1 / problem.likelihood.std(problem.y).numpy() ** 2, y.shape)
    h = np.einsum("ki,bk,kj->bij", a.conj(), weight, a)
    return h, np.einsum("ki,bk->bi", a.conj(), weight * y)


def flat(x: torch.Tensor) -> np.ndarray:
    return x.flatten(1).numpy()


def relative(x, wanted) -> float:
    x, wanted = np.asarray(x).reshape(len(x), -1), np.asarray(wanted).reshape(len(wanted), -1)
    return float((np.linalg.norm(x - wanted, axis=1) / np.linalg.norm(wanted, axis=1)).max())


def objective(problem: Problem, prior, x: torch.Tensor) -> torch.Tensor:
    return problem.nll(x) + prior.value(x)


class Wiener(Denoiser):
    """The exact denoiser of pixels N(mean, 0.5²), for any real or complex images: affine, so fixed points are known."""

    def __init__(self, mean: float = 0.3):
        super().__init__()
        self.mean = mean

    def misfit(self, shape, dtype):
        return None

    def _denoise(self, x, sigma):
        gain = expand(0.25 / (0.25 + sigma**2), x)
        return self.mean + gain * (x - self.mean)


class Unstable(Denoiser):
    """Multiplies bright images by ``factor`` and leaves dark ones alone: samples diverge one by one."""

    def __init__(self, factor: float = 100.0, bright: float = 0.5):
        super().__init__()
        self.factor, self.bright = factor, bright

    def misfit(self, shape, dtype):
        return None

    def _denoise(self, x, sigma):
        hot = x.abs().flatten(1).mean(1) > self.bright
        return torch.where(expand(hot, x), self.factor * x, x)


@dataclass(frozen=True, kw_only=True)
class Noisy(Landweber):
    """Landweber with noise, so that a wrong generator shows."""

    n_steps: PositiveInt = 10
    tol: PositiveFloat | None = None

    def step(self, problem, prior, state, k, rng):
        state, info = super().step(problem, prior, state, k, rng)
        x = state.x
        return type(state)(x + 0.01 * randn_like(x, rng)), info
