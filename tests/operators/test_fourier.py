"""Fourier: exact values, the centred convention, and what it does to structure."""

import numpy as np
import pytest
import torch

from pnpkit.errors import ShapeError
from pnpkit.linalg import dense
from pnpkit.operators.diagonal import Diagonal
from pnpkit.operators.fourier import Fourier, centring
from pnpkit.testing import assert_conforms


def randn(*shape, seed=0, dtype=torch.complex128):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (4, 5), (1, 8), (1, 1)])
def test_centred_is_shift_transform_shift(size):
    x = randn(2, 1, *size)
    F = Fourier(shape=(1, *size)).to(torch.float64)
    axes = (-2, -1)
    wanted = torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(x, dim=axes), norm="ortho"), dim=axes)
    torch.testing.assert_close(F(x), wanted, rtol=1e-12, atol=1e-12)


def test_phases_are_exact_signs_for_even_sizes():
    for phase in centring((1, 4, 6), torch.float32, torch.device("cpu")):
        assert torch.equal(phase.imag, torch.zeros(4, 6)) and set(phase.real.unique().tolist()) == {-1.0, 1.0}
    odd = centring((1, 4, 5), torch.float64, torch.device("cpu"))[0]
    torch.testing.assert_close(odd.abs(), torch.ones(4, 5, dtype=torch.float64), rtol=1e-15, atol=1e-15)


def test_an_impulse_in_the_middle_has_a_flat_real_spectrum():
    x = torch.zeros(1, 1, 4, 6, dtype=torch.complex64)
    x[0, 0, 2, 3] = 1
    torch.testing.assert_close(Fourier(shape=(1, 4, 6))(x), torch.full_like(x, 24**-0.5))


def test_a_constant_image_lands_in_the_middle_or_at_the_corner():
    x = torch.ones(1, 1, 3, 5, dtype=torch.complex64)
    centred, plain = Fourier(shape=(1, 3, 5))(x), Fourier(shape=(1, 3, 5), centred=False)(x)
    assert centred[0, 0, 1, 2].real == pytest.approx(15**0.5) and plain[0, 0, 0, 0].real == pytest.approx(15**0.5)
    assert int((centred.abs() > 1e-5).sum()) == int((plain.abs() > 1e-5).sum()) == 1


def test_unitary_and_equal_to_sigpy():
    sigpy = pytest.importorskip("sigpy")
    x = randn(1, 2, 6, 5)
    F = Fourier(shape=(2, 6, 5)).to(torch.float64)
    np.testing.assert_allclose(F(x)[0].numpy(), sigpy.fft(x[0].numpy(), axes=(-2, -1)), atol=1e-12)
    matrix = dense(F, (2, 6, 5), torch.complex128)
    torch.testing.assert_close(matrix.mH @ matrix, torch.eye(60, dtype=torch.complex128), atol=1e-12, rtol=0)


@pytest.mark.parametrize("centred", [True, False])
def test_a_filter_between_two_transforms_keeps_its_closed_form(centred):
    F = Fourier(shape=(1, 4, 5), centred=centred).to(torch.float64)
    weight = torch.rand(1, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    D = Diagonal(weight=weight, shape=(1, 4, 5), complex=True)
    A = F.H @ D @ F  # a convolution
    assert A.gram().basis == "fourier2"
    twice = F @ D @ F
    assert twice.gram().basis == "fourier2"
    again = D @ F @ F  # F F is a flip: a pixel weight again
    assert again.gram().basis == "pixel"
    for op in (A, twice, again):
        matrix = dense(op, (1, 4, 5), torch.complex128)
        gram = dense(op.gram().apply, (1, 4, 5), torch.complex128)
        torch.testing.assert_close(gram, matrix.mH @ matrix, atol=1e-12, rtol=0)


def test_volumes_and_wrong_shapes():
    assert_conforms(Fourier(shape=(2, 3, 4, 5)))
    assert_conforms(Fourier(shape=(1, 4, 4), centred=False))
    with pytest.raises(ShapeError, match=r"\(C, H, W\)"):
        Fourier(shape=(4, 5))
