"""deepinv's components that have names here, against deepinv itself and against what is known of them."""

import deepinv as dinv
import pytest
import torch

import pnpkit as pk
from pnpkit.errors import ShapeError, SpecError


def test_structured_random_is_theirs_and_an_isometry():
    ours = pk.operators.StructuredRandom(shape=(1, 8, 8), out_shape=(1, 8, 8), layers=2, seed=4)
    rng = torch.Generator().manual_seed(4)
    theirs = dinv.physics.StructuredRandom(img_size=(1, 8, 8), output_size=(1, 8, 8), n_layers=2, rng=rng)
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(ours(x), theirs.A(x))
    assert torch.allclose(ours(x).norm(), x.norm(), rtol=1e-5)  # signs and orthonormal transforms
    with pytest.raises(ShapeError, match="with one C"):
        pk.operator({"name": "structured_random", "shape": (1, 8, 8), "out_shape": (2, 4, 4)})


def test_spectral_unmixing_is_a_matrix_at_every_pixel():
    spectra = torch.rand(3, 5, generator=torch.Generator().manual_seed(0))
    a = pk.operators.SpectralUnmixing(endmembers=spectra, shape=(3, 4, 6))
    x = torch.rand(2, 3, 4, 6)
    assert torch.allclose(a(x), torch.einsum("ec,behw->bchw", spectra, x), atol=1e-6)
    assert torch.equal(a.endmembers, spectra)
    with pytest.raises(ShapeError, match=r"endmembers are \(E, C\)"):
        pk.operators.SpectralUnmixing(endmembers=spectra, shape=(4, 4, 6))


def test_ptychography_sees_the_spectrum_under_the_probe():
    shifts = torch.tensor([[0, 0], [1, 2]])
    probe = torch.rand(1, 6, 6, generator=torch.Generator().manual_seed(0)).to(torch.complex64)
    a = pk.operators.Ptychography(shape=(1, 6, 6), probe=probe, shifts=shifts)
    theirs = dinv.physics.PtychographyLinearOperator(img_size=(1, 6, 6), probe=probe, shifts=shifts)
    x = torch.randn(2, 1, 6, 6, dtype=torch.complex64)
    assert torch.equal(a(x), theirs.A(x)) and a(x).shape == (2, *a.out_shape)
    energy = torch.fft.fft2(x * theirs.probe[:, 0], norm="ortho").abs()
    assert torch.allclose(a(x)[:, 0].abs().sort(-1).values.sum(), energy.sort(-1).values.sum(), rtol=1e-4)
    with pytest.raises(SpecError, match="shifts are integers"):
        pk.operators.Ptychography(shape=(1, 6, 6), shifts=shifts.float())


def test_tgv_keeps_ramps_that_tv_flattens():
    """A ramp has no second derivative: TGV leaves it, TV pulls its ends together."""
    ramp = torch.linspace(0, 1, 24).repeat(24, 1)[None, None]
    tgv, tv = pk.prior({"name": "tgv", "weight": 1.0}), pk.prior({"name": "tv", "weight": 1.0})
    kept, flattened = ((p.prox(ramp, torch.tensor([0.3])) - ramp).abs().mean() for p in (tgv, tv))
    assert kept < 0.1 * flattened
    both = torch.cat([ramp, ramp.mT + 0.1 * torch.randn(ramp.shape, generator=torch.Generator().manual_seed(0))])
    out = tgv.prox(both, torch.tensor([0.1, 0.2]))
    assert torch.allclose(out[1:], tgv.prox(both[1:], torch.tensor([0.2])), atol=1e-6)
    assert torch.allclose(out[1:], dinv.models.TGVDenoiser(crit=1e-6, n_it_max=2000)(both[1:], ths=0.2), atol=1e-6)
