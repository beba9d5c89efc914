"""Inputs for a component, and everything it gives for them.

``exercise(component)`` calls every public method on fixed inputs and returns the results by name; the
checks that hold for every kind of component compare two such sets.
"""

import copy
import functools
import math
from typing import Any

import torch

from pnpkit.likelihoods import Likelihood
from pnpkit.linalg import norm
from pnpkit.operators.base import LinearOperator, Operator
from pnpkit.priors.base import Denoiser, PosteriorDenoiser, Proximable
from pnpkit.testing.measure import double, expect_close, generator, randn, tolerance

Results = dict[str, torch.Tensor]
LARGEST_MATRIX = 2_000_000  # entries; above it norms and pseudo-inverses are checked without a matrix


# --- operators ---


def batch(op: Operator) -> int:
    return op.batch or 3


def image(op: Operator, seed: int = 1, n: int | None = None) -> torch.Tensor:
    """Random, zero mean: (n or the operator's own batch, *in_shape)."""
    return randn((n or batch(op), *op.in_shape), op.in_dtype, seed, op.device)


def measurement(op: Operator, seed: int = 2, n: int | None = None) -> torch.Tensor:
    """Random, zero mean: (n or the operator's own batch, *out_shape)."""
    return randn((n or batch(op), *op.out_shape), op.out_dtype, seed, op.device)


def taus(op: LinearOperator) -> torch.Tensor:
    """A prox step per sample, from weak to strong for this operator, (B,); the same in every precision."""
    probe = image(op, seed=9)
    size = norm(op(probe))
    ratio = norm(probe) / torch.where(size > 0, size, torch.ones_like(size))
    return torch.logspace(-1.3, 1.3, batch(op), dtype=op.dtype, device=op.device) * ratio**2


def exact(op: LinearOperator) -> Any:
    """A float64 copy whose inner solves run to the end."""
    size = torch.Size(op.in_shape).numel() * (2 if op.in_dtype.is_complex else 1)
    return double(op).with_cg(tol=1e-13, max_iter=min(20 * size, 5000))


def solve_rtol(op: LinearOperator) -> float:
    """What may be asked of prox and pseudo-inverse at the operator's own settings."""
    closed = op.gram() is not None or op.cogram() is not None
    return tolerance(op.dtype) * 10 if closed else max(tolerance(op.dtype) * 10, 30 * op.cg.tol)


def as_real(t: torch.Tensor) -> torch.Tensor:
    """(B, *event) -> (B, n), real and imaginary parts side by side."""
    return torch.view_as_real(t.resolve_conj()).flatten(1) if t.is_complex() else t.flatten(1)


def real_size(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    return torch.Size(shape).numel() * (2 if dtype.is_complex else 1)


def matrix(op: LinearOperator) -> torch.Tensor | None:
    """The operator as a real matrix (out, in) in its own precision; None when that would be large.

    Real and imaginary parts are separate rows and columns, so real-linear maps are covered too.
    """
    rows, columns = real_size(op.out_shape, op.out_dtype), real_size(op.in_shape, op.in_dtype)
    if rows * columns > LARGEST_MATRIX or op.batch not in (None, 1):
        return None
    basis = torch.eye(columns, dtype=op.dtype, device=op.device)
    if op.in_dtype.is_complex:
        basis = torch.view_as_complex(basis.reshape(columns, -1, 2))
    basis = basis.reshape(columns, *op.in_shape)
    if op.batch is None:
        return as_real(op(basis)).T.contiguous()
    return torch.cat([as_real(op(b[None])) for b in basis]).T.contiguous()


def singles(op: Operator) -> list[Any]:
    """The operator of every sample."""
    return [op.select(slice(i, i + 1)) for i in range(batch(op))]


def largest_singular_value(op: LinearOperator) -> float:
    """From a matrix where that is small, else from a long power iteration of its own (a lower bound)."""
    dense = matrix(op)
    if dense is not None:
        return float(torch.linalg.matrix_norm(dense, ord=2))
    v, size = image(op, seed=91, n=1), torch.zeros(1)
    for _ in range(300):
        v = op.adjoint(op(v))
        size = norm(v)
        if not bool(size > 0):
            return 0.0
        v = v / size.reshape(-1, *[1] * (v.ndim - 1))
    return math.sqrt(float(size))


# --- everything a component gives ---


@functools.singledispatch
def exercise(component: Any, precision: torch.dtype | None = None) -> Results:
    """Results of all public methods. ``precision`` is for priors without one of their own."""
    raise NotImplementedError(f"no probe for {type(component).__name__}")


@exercise.register
def _(op: Operator, precision: torch.dtype | None = None) -> Results:
    x, v = image(op), measurement(op)
    return {"forward": op(x), "vjp": op.vjp(x, v)}


@exercise.register
def _(op: LinearOperator, precision: torch.dtype | None = None) -> Results:
    x, y, z = image(op), measurement(op), image(op, seed=4)
    return {
        "forward": op(x),
        "adjoint": op.adjoint(y),
        "vjp": op.vjp(x, y),
        "normal": op.normal(x),
        "norm": torch.as_tensor(op.norm()),
        "prox_l2": op.prox_l2(z, y, taus(op)),
        "pinv": op(op.pinv(op(x))),  # the solution itself depends on where singular values are cut
        "initial": op.initial(op(x), generator(3, op.device)),
    }


def prior_images(prior: Any, n: int = 3, seed: int = 5, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Smooth-plus-noise images in the prior's nominal range, (n, *example_shape)."""
    dtype = dtype or prior_dtype(prior)
    low, high = (getattr(prior, "domain", None) and prior.domain.value_range) or (-1.0, 1.0)
    x = randn((n, *prior.example_shape), dtype, seed)
    x = x.cumsum(-1) / x.shape[-1] ** 0.5 + 0.1 * randn(x.shape, dtype, seed + 1)
    x = (low + high) / 2 + 0.25 * (high - low) * x
    return prior.allowed(x) if isinstance(prior, Denoiser) else x


def prior_dtype(prior: Any) -> torch.dtype:
    """The dtype of images: a denoiser declares it, a proximable prior takes what it is given."""
    if isinstance(prior, Denoiser | PosteriorDenoiser):
        return prior.domain.dtype
    held = next((t.dtype for t in prior.state_dict().values() if t.is_floating_point()), torch.float32)
    plain = held.to_real()
    return plain if prior.misfit(prior.example_shape, plain) is None else plain.to_complex()


def in_precision(dtype: torch.dtype, real: torch.dtype) -> torch.dtype:
    """The real or complex dtype of this precision, as ``dtype`` is."""
    return real.to_complex() if dtype.is_complex else real


def sigmas(prior: Denoiser | PosteriorDenoiser, n: int = 3) -> torch.Tensor:
    """Noise levels spread over the range a denoiser accepts, (n,), geometrically."""
    low, high = prior.domain.sigma_range
    top = prior.domain.value_range
    span = 1.0 if top is None else top[1] - top[0]
    low, high = max(low, 1e-3 * span), min(high, 2 * span)
    real = prior.domain.dtype.to_real()
    return torch.logspace(math.log10(low), math.log10(high), n, dtype=torch.float64).clamp(low, high).to(real)


@exercise.register
def _(prior: Denoiser, precision: torch.dtype | None = None) -> Results:
    x = prior_images(prior)
    return {"denoise": prior(x, sigmas(prior))}


@exercise.register
def _(prior: Proximable, precision: torch.dtype | None = None) -> Results:
    z = prior_images(prior, dtype=None if precision is None else in_precision(prior_dtype(prior), precision))
    t = torch.tensor([0.01, 0.05, 0.2], dtype=z.real.dtype if z.is_complex() else z.dtype)
    results = {"prox": prior.prox(z, t)}
    return results | ({"value": prior.value(results["prox"])} if prior.has_value else {})


@exercise.register
def _(prior: PosteriorDenoiser, precision: torch.dtype | None = None) -> Results:
    from pnpkit.testing.problems import denoising_problem

    x = prior_images(prior)
    problem = denoising_problem(prior.example_shape, prior.domain.dtype)
    return {"posterior_denoise": prior(x, sigmas(prior), problem)}


def likelihood_data(likelihood: Likelihood, n: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Positive z and a measurement that could be of it, (n, *example_shape) each."""
    dtype = next((t.dtype.to_real() for t in likelihood.state_dict().values()), torch.float32)
    z = 1 + randn((n, *likelihood.example_shape), dtype, 7).abs()
    return z, (z + 0.5 * randn(z.shape, dtype, 8).abs()).round(decimals=1)


@exercise.register
def _(likelihood: Likelihood, precision: torch.dtype | None = None) -> Results:
    z, y = likelihood_data(likelihood)
    return {"nll": likelihood.nll(z, y), "grad": likelihood.grad(z, y)}


ROOM = {"norm": 5e-3, "pinv": 3e-3}  # iterations that stop early, at their own tolerance


def expect_same_results(given: Results, wanted: Results, rtol: float, what: str) -> None:
    """All results close, name by name."""
    for name, value in wanted.items():
        expect_close(given[name], value, max(rtol, ROOM.get(name, 0.0)), f"{what}: {name}")


def clone(component: Any) -> Any:
    return copy.deepcopy(component)
