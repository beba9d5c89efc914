"""Checks on noise models: value, gradient, samples and scale must tell one story."""

import copy

import torch

from pnpkit.likelihoods import Likelihood
from pnpkit.linalg import inner
from pnpkit.testing.core import check
from pnpkit.testing.measure import (
    double,
    expect,
    expect_close,
    expect_same,
    generator,
    global_rng_untouched,
    randn,
    tolerance,
    untouched,
)
from pnpkit.testing.probes import likelihood_data


@check("likelihoods", Likelihood)
def check_likelihood_shapes(likelihood: Likelihood) -> None:
    """nll is (B,), gradient and sample have the shape and dtype of z; nothing given is written into."""
    z, y = likelihood_data(likelihood)
    with untouched("a call", z, y):
        nll, grad, sample = likelihood.nll(z, y), likelihood.grad(z, y), likelihood.sample(z, generator())
    expect(
        nll.shape == z.shape[:1],
        f"nll has shape {tuple(nll.shape)}, expected {tuple(z.shape[:1])}: one value per sample",
    )
    for what, value in (("grad", grad), ("sample", sample)):
        same = (value.shape, value.dtype) == (z.shape, z.dtype)
        expect(same, f"{what} is {tuple(value.shape)} {value.dtype}, expected {tuple(z.shape)} {z.dtype}")
    likelihood.check(y, likelihood.example_shape)


@check("likelihoods", Likelihood)
def check_likelihood_gradient(likelihood: Likelihood) -> None:
    """``grad`` is the derivative of ``nll`` in z: by autograd, and by finite differences in float64."""
    wide = double(likelihood)
    z, y = likelihood_data(wide)
    z.requires_grad_()
    (wanted,) = torch.autograd.grad(wide.nll(z, y).sum(), z)
    z = z.detach()
    expect_close(wide.grad(z, y), wanted, 1e-9, "grad against autograd of nll")
    d = randn(z.shape, z.dtype, 12)
    h = 1e-6
    slope = (wide.nll(z + h * d, y) - wide.nll(z - h * d, y)) / (2 * h)
    expect_close(inner(wide.grad(z, y), d), slope, 1e-5, "⟨grad, d⟩ against finite differences of nll")


@check("likelihoods", Likelihood)
def check_likelihood_batch(likelihood: Likelihood) -> None:
    """A sample's nll and gradient do not depend on what else is in the batch."""
    z, y = likelihood_data(likelihood)
    for i in range(z.shape[0]):
        one, part = likelihood.index(slice(i, i + 1)), slice(i, i + 1)
        expect_close(one.nll(z[part], y[part]), likelihood.nll(z, y)[part], tolerance(z.dtype), f"nll of sample {i}")
        expect_close(one.grad(z[part], y[part]), likelihood.grad(z, y)[part], tolerance(z.dtype), f"grad of sample {i}")
    twice = likelihood.repeat(2).nll(z.repeat_interleave(2, 0), y.repeat_interleave(2, 0))
    expect_close(twice, likelihood.nll(z, y).repeat_interleave(2), tolerance(z.dtype), "nll of repeat(2)")


@check("likelihoods", Likelihood)
def check_likelihood_scaled(likelihood: Likelihood) -> None:
    """``scaled(c)`` with ``scaled_data`` is the same noise on c·z: nll differs by a constant in z only."""
    wide = double(likelihood)
    z, y = likelihood_data(wide)
    other = z * 1.3 + 0.1
    before = wide.nll(other, y) - wide.nll(z, y)
    for c in (1e-4, 250.0):
        scaled, data = wide.scaled(c), wide.scaled_data(y, c)
        after = scaled.nll(c * other, data) - scaled.nll(c * z, data)
        expect_close(after, before, 1e-6, f"difference of nll in units {c:g} times as small")


@check("likelihoods", Likelihood)
def check_likelihood_samples(likelihood: Likelihood) -> None:
    """Samples are of the density that nll states: E[grad] = 0 and E[grad²] = E[nll''] (Fisher), to 6 sigma."""
    wide, n = double(likelihood), 20_000
    z = likelihood_data(wide, n=1)[0]
    many = z.expand(n, *z.shape[1:])
    y = wide.sample(many, generator(13))
    g = wide.grad(many, y).flatten(1)
    error = g.std(0) / n**0.5
    worst = float((g.mean(0).abs() / error).max())
    expect(worst <= 6, f"mean of grad over {n} samples is {worst:.1f} standard errors from 0: biased samples")
    h = 1e-4 * z
    curvature = ((wide.grad(many + h, y) - wide.grad(many - h, y)).flatten(1) / (2 * h).flatten(1)).mean(0)
    spread = g.square().std(0) / n**0.5
    worst = float(((g.square().mean(0) - curvature).abs() / spread).max())
    expect(
        worst <= 6,
        f"E[grad²] is {worst:.1f} standard errors from E[nll'']: the noise has another variance than nll says",
    )


@check("likelihoods", Likelihood)
def check_likelihood_generator(likelihood: Likelihood) -> None:
    """Samples come from the generator that is passed, and from nothing else."""
    z, _ = likelihood_data(likelihood)
    with global_rng_untouched("sample(z, rng)"):
        first = likelihood.sample(z, generator(14))
    expect_same(likelihood.sample(z, generator(14)), first, "samples from equal generators")
    other = copy.deepcopy(likelihood).sample(z, generator(15))
    expect(not torch.equal(other, first), "samples from different generators are equal: the generator is not used")


@check("likelihoods", Likelihood)
def check_likelihood_weights(likelihood: Likelihood) -> None:
    """``weights(y)`` is the second derivative of nll where z explains y; ``admitted`` leaves such z as it is."""
    wide = double(likelihood)
    _, y = likelihood_data(wide)
    y = y.abs() + 5 if not y.is_complex() else y  # counts well above zero
    z = wide.invert(y)
    h = 1e-4 * (1 + z.abs().mean())
    curvature = (wide.grad(z + h, y) - wide.grad(z - h, y)) / (2 * h)
    expect_close(wide.weights(y), curvature.real, 1e-4, "weights against differences of grad")
    expect_same(wide.admitted(z, y), z, "admitted(z, y) of the z that explains y")
