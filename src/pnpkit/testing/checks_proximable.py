"""Checks on proximable priors: the prox is the minimiser of what ``value`` says."""

from collections.abc import Iterator

import torch

from pnpkit.errors import ShapeError, SpecError
from pnpkit.linalg import expand, inner
from pnpkit.priors.base import Proximable
from pnpkit.testing.core import Skip, check
from pnpkit.testing.measure import (
    double,
    expect,
    expect_close,
    expect_raises,
    randn,
    relative_error,
    tolerance,
    untouched,
)
from pnpkit.testing.probes import in_precision, prior_dtype, prior_images

TAUS = (0.01, 0.05, 0.2)


def _tau(z: torch.Tensor, factor: float = 1.0) -> torch.Tensor:
    return factor * torch.tensor(TAUS, dtype=z.real.dtype if z.is_complex() else z.dtype)


def _in_double(prior: Proximable) -> tuple[Proximable, torch.Tensor]:
    """A float64 copy and float64 images for it."""
    return double(prior), prior_images(prior, dtype=in_precision(prior_dtype(prior), torch.float64))


def _rtol(z: torch.Tensor) -> float:
    return 100 * tolerance(z.dtype)


@check("priors", Proximable)
def check_prox_shape(prior: Proximable) -> None:
    """prox keeps shape and dtype, value is (B,), both finite; nothing given is written into or returned."""
    z = prior_images(prior)
    t = _tau(z)
    with untouched("prox(z, tau)", z, t):
        x = prior.prox(z, t)
    expect(
        (x.shape, x.dtype) == (z.shape, z.dtype),
        f"prox is {tuple(x.shape)} {x.dtype}, expected {tuple(z.shape)} {z.dtype}",
    )
    expect(bool(torch.isfinite(x.abs()).all()), "prox(z, tau) is not finite for a finite z")
    expect(
        x.untyped_storage().data_ptr() != z.untyped_storage().data_ptr(), "prox(z) is a view of z; return a new tensor"
    )
    if prior.has_value:
        with untouched("value(x)", x):
            h = prior.value(x)
        expect(
            h.shape == z.shape[:1], f"value has shape {tuple(h.shape)}, expected {tuple(z.shape[:1])}: one per sample"
        )
        expect(bool(torch.isfinite(h).all()), "value(prox(z, tau)) is not finite")


@check("priors", Proximable)
def check_prox_tau_forms(prior: Proximable) -> None:
    """A number, a 0-d tensor and (B,) mean the same; each sample gets its own; batches do not mix."""
    z = prior_images(prior)
    z = z * torch.tensor([1.0, 0.1, 3.0], dtype=z.dtype).reshape(-1, *[1] * (z.ndim - 1))
    t = _tau(z)
    whole = prior.prox(z, t)
    for i in range(3):
        one = z[i : i + 1]
        for label, tau in (("number", float(t[i])), ("0-d tensor", t[i]), ("(1,) tensor", t[i : i + 1])):
            expect_close(prior.prox(one, tau), whole[i : i + 1], _rtol(z), f"prox with tau as a {label}, sample {i}")
    order = torch.tensor([2, 0, 1])
    expect_close(prior.prox(z[order], t[order]), whole[order], _rtol(z), "prox of a batch in another order")
    expect_raises(ShapeError, lambda: prior.prox(z, t[:2]), "two taus for three images")
    expect_raises(SpecError, lambda: prior.prox(z, -1.0), "tau = −1")


@check("priors", Proximable)
def check_prox_beats_perturbations(prior: Proximable) -> None:
    """½‖x − z‖² + tau·h(x) is smallest at the prox, in float64: against random steps of many sizes, steps to
    and from z, along its own gradient, and the prox at neighbouring tau.
    """
    if not prior.has_value:
        raise Skip("is defined by its prox only")
    wide, z = _in_double(prior)
    t = _tau(z)
    x = wide.prox(z, t)
    least, scale = _objective(wide, x, z, t), _scale(wide, x, z, t)
    for label, other in _competitors(wide, x, z, t):
        gain = (least - _objective(wide, other, z, t)) / scale
        worst = float(gain.max())
        expect(
            worst <= 1e-4, f"prox is beaten by {label}: objective lower by {worst:.1e} of its decrease, expected ≤ 1e-4"
        )


def _objective(prior: Proximable, x: torch.Tensor, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return 0.5 * inner(x - z, x - z) + t * prior.value(x)


def _scale(prior: Proximable, x: torch.Tensor, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """What is at stake: the terms of the objective at x, never zero."""
    size = 0.5 * inner(x - z, x - z) + t * prior.value(x).abs()
    return torch.where(size > 0, size, inner(z, z)).clamp_min(1e-30)


def _competitors(
    prior: Proximable, x: torch.Tensor, z: torch.Tensor, t: torch.Tensor
) -> Iterator[tuple[str, torch.Tensor]]:
    size = (inner(x - z, x - z) + 1e-6 * inner(z, z)).sqrt()
    for seed in range(4):
        d = randn(x.shape, x.dtype, 80 + seed)
        d = d * expand(size / inner(d, d).sqrt(), d)
        for step in (1.0, 0.1, 1e-2, 1e-3):
            yield f"a random step of {step:g}‖x − z‖", x + step * d
    for step in (-0.5, -0.1, -0.02, 0.02, 0.1, 0.5, 1.0):
        yield f"a step of {step:g}(z − x)", x + step * (z - x)
    for factor in (0.5, 0.9, 0.98, 1.02, 1.1, 2.0):
        yield f"the prox at {factor:g}·tau", prior.prox(z, factor * t)
    leaf = x.clone().requires_grad_()
    value = _objective(prior, leaf, z, t)
    if value.requires_grad and bool(torch.isfinite(value).all()):
        (g,) = torch.autograd.grad(value.sum(), leaf)
        length = inner(g, g).sqrt().clamp_min(1e-30)
        for step in (0.3, 0.1, 1e-2, 1e-3):
            yield f"a gradient step of {step:g}‖x − z‖", x - step * expand(size / length, g) * g


@check("priors", Proximable)
def check_prox_firmly_nonexpansive(prior: Proximable) -> None:
    """‖Pa − Pb‖² ≤ ⟨Pa − Pb, a − b⟩, which every convex function's prox satisfies."""
    if not prior.convex:
        raise Skip("declares itself non-convex")
    wide, a = _in_double(prior)
    for seed, size in ((90, 1.0), (91, 0.03)):
        b = a + size * randn(a.shape, a.dtype, seed) * a.abs().square().mean().sqrt()
        d = wide.prox(a, _tau(a)) - wide.prox(b, _tau(a))
        excess = (inner(d, d) - inner(d, a - b)) / inner(a - b, a - b)
        expect(
            float(excess.max()) <= 1e-4, f"‖Pa − Pb‖² exceeds ⟨Pa − Pb, a − b⟩ by {float(excess.max()):.1e} of ‖a − b‖²"
        )


@check("priors", Proximable)
def check_prox_uses_tau(prior: Proximable) -> None:
    """A stronger step moves further; only projections may ignore tau."""
    z = prior_images(prior)
    weak, strong = prior.prox(z, _tau(z)), prior.prox(z, _tau(z, 4.0))
    if relative_error(prior.prox(weak, _tau(z)), weak) < 1e-6:
        raise Skip("is a projection: tau has no effect")
    near, far = ((p - z).abs().square().flatten(1).sum(1) for p in (weak, strong))
    further = bool((far >= 0.999 * near).all()) and bool((far > 1.001 * near).any())
    expect(further, "prox(z, 4·tau) is no further from z than prox(z, tau): tau is ignored")


@check("priors", Proximable)
def check_prox_uses_weight(prior: Proximable) -> None:
    """A weight w is a factor of the function: prox at (w, tau) is that at (1, w·tau), and the value is w times."""
    if "weight" not in type(prior.spec).model_fields or not isinstance(prior.weight, float | int):  # type: ignore[attr-defined]
        raise Skip("has no weight")
    heavy = type(prior)(**{**dict(prior.spec), "weight": 3.0 * prior.weight})  # type: ignore[attr-defined]
    z = prior_images(prior)
    x = heavy.prox(z, _tau(z))
    expect_close(x, prior.prox(z, _tau(z, 3.0)), 1e-3, "prox with 3 times the weight against 3 times tau")
    expect(
        relative_error(x, prior.prox(z, _tau(z))) > 1e-4,
        "prox with 3 times the weight is the same: the weight is ignored",
    )
    if prior.has_value:
        expect_close(heavy.value(z), 3.0 * prior.value(z), _rtol(z), "value with 3 times the weight")


@check("priors", Proximable)
def check_degree(prior: Proximable) -> None:
    """A function of degree p: h(c·x) = c^p·h(x), and so prox(c·z, c^(2 − p)·tau) = c·prox(z, tau)."""
    if prior.degree is None:
        raise Skip("declares no degree")
    z, c = prior_images(prior), 4.0
    expect_close(
        prior.prox(c * z, c ** (2 - prior.degree) * _tau(z)),
        c * prior.prox(z, _tau(z)),
        1e-3,
        f"prox of 4·z, for a function of degree {prior.degree}",
    )
    if prior.has_value:
        wanted = c**prior.degree * prior.value(z)
        expect_close(prior.value(c * z), wanted, _rtol(z), f"value at 4·z, for a function of degree {prior.degree}")


@check("priors", Proximable)
def check_prox_limit_of_small_steps(prior: Proximable) -> None:
    """prox(z, tau) → z as tau → 0, for z where the function is finite."""
    wide, z = _in_double(prior)
    if prior.has_value and not bool(torch.isfinite(wide.value(z)).all()):
        z = wide.prox(z, _tau(z))
    gaps = [relative_error(wide.prox(z, _tau(z, f)), z) for f in (1e-3, 1e-6)]
    expect(gaps[1] <= 1e-4 and gaps[1] <= gaps[0] + 1e-12, f"‖prox(z, tau) − z‖/‖z‖ is {gaps[1]:.1e} at tau ≈ 1e-6")


@check("priors", Proximable)
def check_terms(prior: Proximable) -> None:
    """``terms()`` adds up to ``value``: h(x) = Σ h_i(K_i x), every h_i with a prox of its own."""
    z = prior_images(prior)
    terms = prior.terms(tuple(z.shape[1:]), z.dtype)
    expect(bool(terms), "terms(shape, dtype) is empty")
    for k, h in terms:
        expect(isinstance(h, Proximable), f"terms(): {type(h).__name__} is not Proximable")
        fits = k is None or (k.in_shape, k.in_dtype) == (tuple(z.shape[1:]), z.dtype)
        expect(fits, f"terms(): {k!r} does not take images {tuple(z.shape[1:])} {z.dtype}")
    if not prior.has_value:
        raise Skip("is defined by its prox only")
    total = sum(h.value(z if k is None else k(z)) for k, h in terms)
    finite = torch.isfinite(prior.value(z))
    expect_close(total[finite], prior.value(z)[finite], _rtol(z), "sum of terms against value")  # type: ignore[index]
    expect(bool((torch.isfinite(total) == finite).all()), "the terms are finite where value is not, or the reverse")  # type: ignore[arg-type]
