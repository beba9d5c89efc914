"""Coil maps through sigpy: the maps a k-space was made with come back, and bad data are refused."""

import numpy as np
import pytest
import torch

import pnpkit as pk
from pnpkit.errors import DataError, ShapeError, SpecError
from pnpkit.operators.makers.coils import birdcage_maps, espirit_maps
from pnpkit.operators.mri import MRI

SIZE = (48, 40)


def disc() -> torch.Tensor:
    y, x = torch.meshgrid(torch.linspace(-1, 1, SIZE[0]), torch.linspace(-1, 1, SIZE[1]), indexing="ij")
    return (y.square() + x.square() < 0.7).float() * (1 + 0.3 * torch.cos(6 * x))


@pytest.fixture(scope="module")
def kspace() -> torch.Tensor:
    maps = birdcage_maps((6, *SIZE))
    return MRI(mask=torch.ones(1, *SIZE), maps=maps)(disc()[None, None].to(torch.complex64))[0]


def test_birdcage_is_sigpys_and_normalised():
    sim = pytest.importorskip("sigpy.mri.sim")
    maps = pk.make("birdcage_maps", shape=(6, 12, 10), radius=2.0)
    assert maps.dtype == torch.complex64
    np.testing.assert_allclose(maps.numpy(), sim.birdcage_maps((6, 12, 10), r=2.0), atol=1e-6)
    torch.testing.assert_close(maps.abs().square().sum(0), torch.ones(12, 10))


def test_espirit_recovers_the_coils_inside_the_object(kspace):
    """Up to a phase per pixel, which no method can know: the angle between true and found coil vectors."""
    true, found = birdcage_maps((6, *SIZE)), espirit_maps(kspace, calib=20, kernel=5)
    assert found.shape == true.shape and found.dtype == torch.complex64
    inside = disc() > 0
    cosine = (true.conj() * found).sum(0).abs()[inside]
    assert float(cosine.mean()) > 0.99 and float(cosine.min()) > 0.9
    power = found.abs().square().sum(0)
    assert bool(((power - 1).abs() < 1e-4).logical_or(power == 0).all())
    assert float((power[inside] > 0).float().mean()) > 0.95


def test_espirit_uses_the_calibration_region_only_and_finds_it(kspace):
    mask = torch.zeros(SIZE)
    mask[::2] = 1
    mask[24 - 8 : 24 + 8, 20 - 8 : 20 + 8] = 1
    explicit = espirit_maps(kspace * mask, calib=16, n_steps=30)
    assert torch.equal(espirit_maps(kspace * mask, n_steps=30), explicit)
    assert torch.equal(espirit_maps(kspace, calib=16, n_steps=30), explicit)


def test_nothing_is_touched(kspace):
    np.random.seed(5)
    before, kept = np.random.get_state()[1].copy(), kspace.clone()
    espirit_maps(kspace, calib=12, n_steps=5)
    assert (np.random.get_state()[1] == before).all() and torch.equal(kspace, kept)


@pytest.mark.parametrize(
    ("change", "kwargs", "error", "words"),
    [
        (lambda k: k[None], {}, ShapeError, "without a batch"),
        (lambda k: k.real, {}, ShapeError, "complex"),
        (lambda k: k * 0, {}, DataError, "0×0"),
        (lambda k: k, {"calib": 41}, DataError, "40×40"),
        (lambda k: k, {"calib": 4}, DataError, "kernel"),
        (lambda k: k * torch.nan, {}, DataError, "NaN"),
        (lambda k: k[:, ::2].repeat_interleave(2, 1) * (torch.arange(48) % 2)[:, None], {}, DataError, "fully sampled"),
    ],
)
def test_bad_kspace_is_refused(kspace, change, kwargs, error, words):
    with pytest.raises(error, match=words):
        espirit_maps(change(kspace), **kwargs)


def test_bad_parameters_are_refused(kspace):
    with pytest.raises(ShapeError, match=r"\(coils, H, W\)"):
        pk.make("birdcage_maps", shape=(12, 10))
    with pytest.raises(SpecError, match="radius"):
        pk.make("birdcage_maps", shape=(4, 12, 10), radius=0.5)
    with pytest.raises(SpecError, match="crop"):
        pk.make("espirit_maps", kspace=kspace, crop=1.5)
