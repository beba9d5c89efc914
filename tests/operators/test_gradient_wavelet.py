"""Differences and wavelets: toy values, orthogonality, PyWavelets."""

import numpy as np
import pytest
import pywt
import torch

from pnpkit.errors import ShapeError, SpecError
from pnpkit.linalg import dense
from pnpkit.operators import Gradient, Wavelet


def test_differences_by_hand():
    x = torch.tensor([[[1.0, 4.0, 9.0]]])
    assert torch.equal(Gradient(shape=(1, 3), axes=1)(x), torch.tensor([[[[3.0, 5.0, 0.0]]]]))
    assert torch.equal(Gradient(shape=(1, 3), axes=1, boundary="circular")(x), torch.tensor([[[[3.0, 5.0, -8.0]]]]))


@pytest.mark.parametrize("boundary", ["neumann", "circular"])
@pytest.mark.parametrize(("shape", "axes"), [((1, 7), 1), ((2, 5, 6), 2), ((1, 3, 4, 5), 3)])
def test_gradient_norm_is_exact(shape, axes, boundary):
    d = Gradient(shape=shape, axes=axes, boundary=boundary).to(torch.float64)
    matrix = dense(d._forward, shape, torch.float64)
    assert float(d.norm()) == pytest.approx(float(torch.linalg.matrix_norm(matrix, 2)), rel=1e-10)


def test_circular_gradient_has_a_closed_form():
    d = Gradient(shape=(1, 6, 5), boundary="circular").to(torch.float64)
    x = torch.randn(2, 1, 6, 5, dtype=torch.float64)
    assert d.gram().basis == "fourier2"
    assert torch.allclose(d.gram().apply(x), d.adjoint(d(x)), atol=1e-12)


@pytest.mark.parametrize("wavelet", ["haar", "db2", "db4", "sym8"])
@pytest.mark.parametrize("shape", [(1, 32), (2, 32, 48), (1, 16, 16, 32)])
@pytest.mark.parametrize("complex", [False, True])
def test_wavelets_are_orthonormal(wavelet, shape, complex):
    levels = None if len(shape) < 4 and wavelet != "sym8" else 1
    w = Wavelet(shape=shape, wavelet=wavelet, levels=levels, complex=complex).to(torch.float64)
    x = torch.randn(2, *shape, dtype=w.in_dtype)
    assert torch.allclose(w.adjoint(w(x)), x, atol=1e-10)
    assert torch.allclose(w(w.adjoint(x)), x, atol=1e-10)


@pytest.mark.parametrize("wavelet", ["haar", "db2", "db4"])
def test_energies_agree_with_pywavelets(wavelet):
    """Band by band; theirs runs the other way and starts elsewhere."""
    x = np.random.default_rng(0).standard_normal((16, 16))
    coarse, details = pywt.dwt2(x, wavelet, mode="periodization")
    w = Wavelet(shape=(1, 16, 16), wavelet=wavelet, levels=1).to(torch.float64)

    def bands(shift: int) -> dict[str, np.ndarray]:
        c = w(torch.from_numpy(np.roll(x[::-1, ::-1], (shift, shift), (0, 1)).copy())[None, None])[0, 0].numpy()
        return {"a": c[:8, :8], "v": c[:8, 8:], "h": c[8:, :8], "d": c[8:, 8:]}

    def same(ours: dict[str, np.ndarray]) -> bool:
        theirs = dict(zip("ahvd", (coarse, *details), strict=True))
        return all(
            np.allclose(np.sort(np.abs(ours[k].ravel())), np.sort(np.abs(theirs[k].ravel())), atol=1e-10)
            for k in "ahvd"
        )

    assert same(bands(0)) or same(bands(1))


def test_odd_sizes_are_embedded_isometrically():
    w = Wavelet(shape=(1, 23, 18), wavelet="db2", levels=2)
    x = torch.randn(2, 1, 23, 18)
    assert w.out_shape == (1, 24, 20)
    assert torch.allclose(w.adjoint(w(x)), x, atol=1e-5)


def test_impossible_wavelets_are_refused():
    with pytest.raises(ShapeError, match="too many"):
        Wavelet(shape=(1, 8, 8), wavelet="db4", levels=3)
    with pytest.raises(SpecError, match="not orthogonal"):
        Wavelet(shape=(1, 32, 32), wavelet="bior2.2")
    with pytest.raises(SpecError, match="not a wavelet"):
        Wavelet(shape=(1, 32, 32), wavelet="db999")
