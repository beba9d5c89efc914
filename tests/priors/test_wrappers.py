"""Denoisers around denoisers."""

import pytest
import torch
from torch.nn import functional

from pnpkit.errors import ShapeError, SpecError
from pnpkit.linalg import expand
from pnpkit.priors import ComplexAsReal, GaussianMixture, Rescale, SelfEnsemble, Tiled, UnitSum
from pnpkit.priors.base import Denoiser, Domain


class Local(Denoiser):
    """A 5×5 filter that is not symmetric, blended in by sigma: sees 2 pixels far, any size."""

    domain = Domain((1, None, None))

    def __init__(self):
        super().__init__()
        self.kernel = torch.rand(1, 1, 5, 5, generator=torch.Generator().manual_seed(0)) / 25
        self.seen = []

    def _denoise(self, x, sigma):
        self.seen.append(tuple(x.shape))
        weight = expand(sigma / (1 + sigma), x)
        return (1 - weight) * x + weight * functional.conv2d(functional.pad(x, (2,) * 4), self.kernel)


@pytest.mark.parametrize("size", [(40, 50), (16, 50), (33, 16), (10, 12), (17, 17)])
def test_tiles_give_what_the_whole_gives(size):
    """Zero padding inside a tile reaches 2 pixels; the weights there are not 0, so compare where no seam is near."""
    inner = Local()
    x = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(1))
    sigma = torch.tensor([0.3, 2.0])
    whole, tiled = inner(x, sigma), Tiled(denoiser=inner, tile=16, overlap=4)(x, sigma)
    assert tiled.shape == x.shape
    away = (tiled - whole).abs()
    assert float(away.mean()) < 0.02 * float(whole.abs().mean())
    if max(size) <= 16:
        assert torch.equal(tiled, whole)


def test_tiles_are_of_one_size_and_come_in_batches():
    inner = Local()
    Tiled(denoiser=inner, tile=16, overlap=4, batch=3)(torch.rand(1, 1, 40, 40), 0.5)
    assert sum(n for n, *_ in inner.seen) == 9 and {s[2:] for s in inner.seen} == {(16, 16)}
    assert max(n for n, *_ in inner.seen) == 3


def test_a_constant_denoiser_leaves_no_seams():
    flat = GaussianMixture(means=torch.full((1, 1, 8, 8), 0.25), covariances=1e-12 * torch.eye(64)[None])
    x = torch.rand(1, 1, 21, 30)
    assert torch.allclose(Tiled(denoiser=flat, tile=8, overlap=3)(x, 1.0), torch.full_like(x, 0.25), atol=1e-5)


def test_self_ensemble_commutes_with_turning_and_mirroring():
    x = torch.rand(1, 1, 12, 9)
    for mirrored in (True, False):
        d = SelfEnsemble(denoiser=Local(), mirrored=mirrored)
        assert torch.allclose(d(torch.rot90(x, 1, (-2, -1)), 1.0), torch.rot90(d(x, 1.0), 1, (-2, -1)), atol=1e-6)
    both = SelfEnsemble(denoiser=Local())
    assert torch.allclose(both(x.flip(-1), 1.0), both(x, 1.0).flip(-1), atol=1e-6)
    assert len(both.denoiser.seen) == 16


def test_complex_parts_are_channels():
    prior = ComplexAsReal.example()
    x = torch.randn(2, 1, 3, 4, dtype=torch.complex64)
    wanted = prior.denoiser(torch.cat([x.real, x.imag], 1), 0.3)
    assert torch.equal(prior(x, 0.3), torch.complex(wanted[:, :1], wanted[:, 1:]))


def test_what_cannot_be_wrapped():
    small = GaussianMixture.example()
    with pytest.raises(ShapeError, match="even number of channels"):
        ComplexAsReal(denoiser=small)
    with pytest.raises(ShapeError, match="tiles are"):
        Tiled(denoiser=small, tile=64, overlap=8)
    with pytest.raises(SpecError, match="two overlaps"):
        Tiled(denoiser=Local(), tile=16, overlap=8)
    with pytest.raises(ShapeError, match="turns images"):
        SelfEnsemble(denoiser=small)
    with pytest.raises(SpecError, match="low < high"):
        Rescale(denoiser=small, inner=(1.0, -1.0))


def test_unit_sum_of_each_channel():
    inner = GaussianMixture(means=torch.full((1, 2, 3, 3), 0.3), covariances=0.01 * torch.eye(18)[None])
    x = 0.3 + 0.1 * torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    found, free = UnitSum(denoiser=inner)(x, 0.1), inner(x, 0.1)
    assert torch.allclose(found.sum((-2, -1)), torch.ones(4, 2))
    assert torch.allclose(found * free.sum((-2, -1), keepdim=True), free)
    with pytest.raises(ShapeError, match="complex64"):
        UnitSum(denoiser=ComplexAsReal.example())
