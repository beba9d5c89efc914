"""Checks on denoisers and posterior denoisers."""

import torch

from pnpkit.errors import CapabilityError, ShapeError
from pnpkit.linalg import inner
from pnpkit.priors.base import Denoiser, PosteriorDenoiser
from pnpkit.testing.core import Skip, check
from pnpkit.testing.measure import (
    double,
    expect,
    expect_close,
    expect_raises,
    generator,
    randn,
    relative_error,
    tolerance,
    untouched,
)
from pnpkit.testing.probes import matrix, prior_images, sigmas
from pnpkit.testing.problems import denoising_problem, mixing_problem

# A network sums thousands of products; its batches may be computed by other kernels than its single images.
NETWORK = 20


def _rtol(x: torch.Tensor) -> float:
    return NETWORK * tolerance(x.dtype)


@check("priors", Denoiser)
def check_denoised_shape(prior: Denoiser) -> None:
    """(B, *shape) and sigma give finite images of the same shape and dtype, for one image and for several."""
    for n in (1, 3):
        x = prior_images(prior, n)
        d = prior(x, sigmas(prior, n))
        same = (d.shape, d.dtype, d.device) == (x.shape, x.dtype, x.device)
        expect(same, f"D(x) is {tuple(d.shape)} {d.dtype}, expected {tuple(x.shape)} {x.dtype}")
        expect(bool(torch.isfinite(d.abs()).all()), "D(x) is not finite for a finite x")


@check("priors", Denoiser)
def check_sigma_forms(prior: Denoiser) -> None:
    """A number, a 0-d tensor and (B,) mean the same; every sample gets its own; other shapes are refused."""
    x, s = prior_images(prior), sigmas(prior)
    whole = prior(x, s)
    for i in range(3):
        one = x[i : i + 1]
        for label, sigma in (("number", float(s[i])), ("0-d tensor", s[i]), ("(1,) tensor", s[i : i + 1])):
            expect_close(prior(one, sigma), whole[i : i + 1], _rtol(x), f"sigma as a {label}, sample {i}")
    expect_raises(ShapeError, lambda: prior(x, s[:2]), "two sigmas for three images")
    expect_raises(ShapeError, lambda: prior(x, s[:, None]), "sigma of shape (B, 1)")


@check("priors", Denoiser)
def check_sigma_range_enforced(prior: Denoiser) -> None:
    """A sigma outside ``domain.sigma_range``, or not above zero, raises; ``fit_sigma`` leads back inside."""
    x = prior_images(prior, 1)
    low, high = prior.domain.sigma_range
    expect(0 <= low <= high, f"sigma_range is {prior.domain.sigma_range}, expected 0 ≤ low ≤ high")
    bad = [0.0, -0.1, float("nan")] + ([low / 2] if low > 0 else []) + ([high * 2] if high < float("inf") else [])
    for sigma in bad:
        expect_raises(
            CapabilityError, lambda s=sigma: prior(x, s), f"sigma = {sigma:g} with the range [{low:g}, {high:g}]"
        )
    for sigma in (low / 2, (low + min(high, 1)) / 2, 2 * high):
        fitted = prior.fit_sigma(sigma)
        expect(low <= fitted <= high, f"fit_sigma({sigma:g}) = {fitted:g} is outside [{low:g}, {high:g}]")


@check("priors", Denoiser)
def check_sigma_matters(prior: Denoiser) -> None:
    """Weak and strong denoising differ: sigma is used."""
    s = sigmas(prior)
    if float(s.max()) < 1.01 * float(s.min()):
        raise Skip("made for one noise level")
    x = prior_images(prior, 1)
    gap = relative_error(prior(x, float(s.min())), prior(x, float(s.max())))
    expect(
        gap > 1e-3, f"D(x, {float(s.min()):g}) and D(x, {float(s.max()):g}) differ by {gap:.1e} only: sigma is ignored"
    )


@check("priors", Denoiser)
def check_wrong_images_refused(prior: Denoiser) -> None:
    """Another dtype or another shape than the domain states is a ShapeError."""
    x, s = prior_images(prior, 1), float(sigmas(prior)[1])
    other = torch.float32 if x.dtype.to_real() == torch.float64 else torch.float64
    turned = x.real.clone() if x.is_complex() else x.to(x.dtype.to_complex())
    for bad in (x.to(other.to_complex() if x.is_complex() else other), turned):
        expect_raises(ShapeError, lambda bad=bad: prior(bad, s), f"{bad.dtype} images where the domain says {x.dtype}")
    if prior.domain.shape is not None:
        expect_raises(ShapeError, lambda: prior(x[0], s), "an image without its batch axis")


@check("priors", Denoiser)
def check_denoiser_input_not_mutated(prior: Denoiser) -> None:
    """Neither images nor sigma are written into, and the result is not a view of them."""
    x, s = prior_images(prior), sigmas(prior)
    with untouched("denoise(x, sigma)", x, s):
        d = prior(x, s)
    expect(d.untyped_storage().data_ptr() != x.untyped_storage().data_ptr(), "D(x) is a view of x; return a new tensor")


@check("priors", Denoiser)
def check_denoiser_batch_independence(prior: Denoiser) -> None:
    """A batch gives what its images give alone, in any order."""
    x, s = prior_images(prior), sigmas(prior)
    x = x * torch.tensor([1.0, 0.3, 0.7], dtype=s.dtype).reshape(-1, *[1] * (x.ndim - 1))
    whole = prior(x, s)
    for i in range(3):
        expect_close(
            whole[i : i + 1], prior(x[i : i + 1], s[i : i + 1]), _rtol(x), f"image {i} of a batch against alone"
        )
    order = torch.tensor([2, 0, 1])
    expect_close(prior(x[order], s[order]), whole[order], _rtol(x), "batch in another order")


@check("priors", Denoiser)
def check_near_identity_at_smallest_sigma(prior: Denoiser) -> None:
    """At the smallest sigma D changes an image by no more than a few sigma, or 2% of its range."""
    x, s = prior_images(prior, 2), float(sigmas(prior).min())
    span = prior.domain.value_range
    limit = max(5 * s, 0.02 * (1.0 if span is None else span[1] - span[0]))
    change = float((prior(x, s) - x).abs().square().mean().sqrt())
    expect(change <= limit, f"D(x, {s:g}) differs from x by {change:.3g} on average, expected at most {limit:.3g}")


@check("priors", Denoiser)
def check_reduces_noise(prior: Denoiser) -> None:
    """From x0 + sigma·n, D comes nearer to x0: sigma and value range are in the units they claim."""
    x0, levels = _clean(prior), sigmas(prior)
    for sigma, factor in ((float(levels[1]), 1.05), (float(levels.max()), 0.9)):
        noisy = x0 + sigma * randn(x0.shape, x0.dtype, 16)
        before = float((noisy - x0).abs().square().mean().sqrt())
        after = float((prior(noisy, sigma) - x0).abs().square().mean().sqrt())
        limit = factor * before
        expect(
            after < limit,
            f"at sigma {sigma:.3g} the error went from {before:.3g} to {after:.3g}, expected < {limit:.3g}",
        )


def _clean(prior: Denoiser) -> torch.Tensor:
    """Two draws of the denoiser's own Gaussian model where it has one, else smooth blobs."""
    if (model := prior.gaussian_model()) is not None:
        return _draws(prior, model, 2)
    low, high = prior.domain.value_range or (-1.0, 1.0)
    shape = prior.example_shape
    axes = [torch.linspace(0, 3.14159, n, dtype=torch.float64) for n in shape[1:]]
    wave = torch.ones(shape[1:], dtype=torch.float64)
    for i, axis in enumerate(axes):
        wave = wave * torch.sin(axis).reshape([-1 if j == i else 1 for j in range(len(axes))])
    pair = torch.stack([wave, 1 - wave])[:, None].expand(2, *shape)
    return prior.allowed((low + (high - low) * (0.2 + 0.6 * pair)).to(prior.domain.dtype))


@check("priors", Denoiser)
def check_score(prior: Denoiser) -> None:
    """``score`` is (D(x, sigma) − x)/sigma²."""
    x, s = prior_images(prior), sigmas(prior)
    per = s.reshape(-1, *[1] * (x.ndim - 1))
    expect_close(prior.score(x, s) * per**2 + x, prior(x, s), _rtol(x), "x + sigma²·score")


@check("priors", Denoiser)
def check_denoiser_gradient(prior: Denoiser) -> None:
    """Gradients pass through D to x, and ``torch.func.vjp`` gives the same: guidance needs them."""
    x, s = prior_images(prior, 1).requires_grad_(), sigmas(prior)[1]
    v = randn(x.shape, x.dtype, 17)
    out = prior(x, s)
    expect(out.requires_grad, "D(x) does not carry a gradient with respect to x: something is detached")
    (wanted,) = torch.autograd.grad(inner(out, v).sum(), x)
    functional = torch.func.vjp(lambda t: prior(t, s), x.detach())[1](v)[0]
    expect_close(functional, wanted, _rtol(x), "torch.func.vjp of D against autograd")


def _draws(prior: Denoiser | PosteriorDenoiser, model: tuple[torch.Tensor, torch.Tensor], n: int) -> torch.Tensor:
    mean, covariance = (t.to(torch.float64) for t in model)
    root = torch.linalg.cholesky(
        covariance + 1e-9 * covariance.diagonal().max() * torch.eye(len(covariance)).to(covariance)
    )
    flat = torch.randn(n, len(covariance), dtype=torch.float64, generator=generator(18)) @ root.T
    return (mean + flat.reshape(n, *mean.shape)).to(prior.domain.dtype)


@check("priors", Denoiser)
def check_wiener_on_gaussian_data(prior: Denoiser) -> None:
    """With a Gaussian model N(m, C): D(x, sigma) = m + C (C + sigma² I)^-1 (x − m) at five sigmas."""
    model = prior.gaussian_model()
    if model is None:
        raise Skip("declares no Gaussian model")
    wide = double(prior)
    mean, covariance = (t.to(torch.float64) for t in model)
    x0 = _draws(wide, model, 2)
    low, high = float(sigmas(wide).min()), float(sigmas(wide).max())
    for sigma in torch.logspace(0, 1, 5, base=high / low, dtype=torch.float64).mul(low).clamp(low, high).tolist():
        x = x0 + sigma * randn(x0.shape, x0.dtype, 19)
        gain = torch.linalg.solve(covariance + sigma**2 * torch.eye(len(covariance)).to(covariance), covariance)
        wanted = mean + ((x - mean).flatten(1) @ gain).reshape(x.shape)
        expect_close(wide(x, sigma), wanted, 1e-5, f"D(x, {sigma:.3g}) against the Wiener estimate")


# --- posterior denoisers ---


@check("priors", PosteriorDenoiser)
def check_given_is_a_denoiser(prior: PosteriorDenoiser) -> None:
    """``given(problem)`` is a Denoiser and says what forward says; the prior itself is none."""
    x, s = prior_images(prior), sigmas(prior)
    problem = denoising_problem(prior.example_shape, prior.domain.dtype)
    given = prior.given(problem)
    expect(isinstance(given, Denoiser), f"given(problem) is a {type(given).__name__}, expected a Denoiser")
    expect("denoise" not in prior.provides, "a posterior denoiser must not satisfy `needs: denoise` by itself")
    with untouched("a posterior denoiser", x, s, problem.y):
        out = prior(x, s, problem)
    expect_close(given(x, s), out, _rtol(x), "given(problem)(x, sigma) against forward")
    expect(out.shape == x.shape and out.dtype == x.dtype, f"the estimate is {tuple(out.shape)} {out.dtype}")


@check("priors", PosteriorDenoiser)
def check_posterior_uses_the_data(prior: PosteriorDenoiser) -> None:
    """Another y gives another estimate, sample by sample, and only there."""
    x, s = prior_images(prior), sigmas(prior)
    problem = denoising_problem(prior.example_shape, prior.domain.dtype)
    other = problem.y.clone()
    other[1] = other[1] + 0.5 * other.abs().max()
    changed = type(problem)(problem.operator, problem.likelihood, other)
    gap = (prior(x, s, changed) - prior(x, s, problem)).abs().flatten(1).amax(1)
    expect(float(gap[1]) > 0, "the estimate does not depend on y")
    expect(float(gap[0]) == 0 and float(gap[2]) == 0, "changing y of one sample changed the estimate of another")


@check("priors", PosteriorDenoiser)
def check_posterior_mean_on_gaussian_data(prior: PosteriorDenoiser) -> None:
    """With a Gaussian model and a linear operator the estimate is the posterior mean, by linear algebra."""
    model = prior.gaussian_model()
    if model is None:
        raise Skip("declares no Gaussian model")
    wide = double(prior)
    problem = mixing_problem(wide.example_shape, n=3, dtype=torch.float64)
    mean, covariance = (t.to(torch.float64) for t in model)
    a, noise = matrix(problem.operator), float(problem.likelihood.sigma)  # type: ignore[arg-type]
    assert a is not None
    x = prior_images(wide)
    for sigma in sigmas(wide).tolist():
        eye = torch.eye(len(covariance), dtype=torch.float64)
        precision = torch.linalg.inv(covariance) + eye / sigma**2 + a.T @ a / noise**2
        right = (
            torch.linalg.solve(covariance, mean.flatten())
            + x.flatten(1) / sigma**2
            + problem.y.flatten(1) @ a / noise**2
        )
        wanted = torch.linalg.solve(precision, right.T).T.reshape(x.shape)
        expect_close(wide(x, sigma, problem), wanted, 1e-5, f"E[x0 | x_t, y] at sigma {sigma:.3g}")
