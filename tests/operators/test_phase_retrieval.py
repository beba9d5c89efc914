"""PhaseRetrieval: exact values, invariances, derivatives, starts."""

import pytest
import torch

from pnpkit.errors import ShapeError, SpecError
from pnpkit.linalg import inner, norm
from pnpkit.operators.phase_retrieval import PhaseRetrieval
from pnpkit.testing import assert_conforms


def rand(*shape, seed=0):
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def randc(*shape, seed=0):
    return torch.randn(shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


def test_exact_values():
    """x = (1, 2) padded to 4: |1 + 2 (−i)^k| / 2 for k = 0…3."""
    A = PhaseRetrieval(shape=(1, 1, 2)).to(torch.float64)
    wanted = torch.tensor([3, 5**0.5, 1, 5**0.5], dtype=torch.float64) / 2
    y = A(torch.tensor([[[[1.0, 2.0]]]], dtype=torch.float64))
    assert A.out_shape == (1, 2, 4)
    for row in y[0, 0] * 2**0.5:  # two equal rows share the energy
        torch.testing.assert_close(row, wanted)


@pytest.mark.parametrize("oversampling", [1.0, 1.5, 2, 3])
def test_energy_is_kept(oversampling):
    A, x = PhaseRetrieval(shape=(2, 5, 4), oversampling=oversampling).to(torch.float64), rand(3, 2, 5, 4)
    torch.testing.assert_close(norm(A(x)), norm(x))


def test_twice_oversampled_magnitudes_hold_the_autocorrelation():
    A, x = PhaseRetrieval(shape=(1, 5, 4)).to(torch.float64), rand(1, 1, 5, 4)
    measured = torch.fft.ifft2(A(x).square()).real[0, 0] * A.out_shape[-1] * A.out_shape[-2]
    for i, j in ((0, 0), (1, 0), (4, 3), (2, 1)):
        overlap = (x[0, 0, i:, j:] * x[0, 0, : 5 - i, : 4 - j]).sum()
        assert float(measured[i, j]) == pytest.approx(float(overlap))


def test_blind_to_global_phase_flip_and_shift():
    A = PhaseRetrieval(shape=(1, 6, 5), complex=True).to(torch.float64)
    x = randc(1, 1, 6, 5)
    x[..., -1, :] = 0
    y = A(x)
    torch.testing.assert_close(A(1j * x), y)
    torch.testing.assert_close(A(x.flip(-1, -2).conj()), y)
    torch.testing.assert_close(A(x.roll(1, -2)), y)


@pytest.mark.parametrize("complex_", [False, True])
def test_vjp_is_autograd_and_finite_differences(complex_):
    A = PhaseRetrieval(shape=(2, 4, 5), complex=complex_).to(torch.float64)
    make = randc if complex_ else rand
    x, d, v = make(2, 2, 4, 5), make(2, 2, 4, 5, seed=1), rand(2, *A.out_shape, seed=2)
    leaf = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(inner(A(leaf), v).sum(), leaf)
    torch.testing.assert_close(A.vjp(x, v), wanted)
    h = 1e-6
    slope = inner(A(x + h * d) - A(x - h * d), v) / (2 * h)
    torch.testing.assert_close(inner(A.vjp(x, v), d), slope, rtol=1e-7, atol=1e-7)
    assert A.vjp(x, v).is_complex() == complex_


def test_gradient_at_a_zero_of_the_spectrum_is_zero():
    A = PhaseRetrieval(shape=(1, 4, 4)).to(torch.float64)
    x = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    v = torch.ones(1, *A.out_shape, dtype=torch.float64)
    assert torch.equal(A.vjp(x, v), x)
    leaf = x.clone().requires_grad_()
    A(leaf).sum().backward()
    assert torch.equal(leaf.grad, x)


def test_gradient_descent_finds_an_image_with_the_measured_magnitudes():
    """∇ ½‖A(x) − y‖² is what ``vjp`` says: plain descent from nearby reaches the data."""
    A = PhaseRetrieval(shape=(1, 6, 6)).to(torch.float64)
    truth = rand(1, 1, 6, 6)
    y = A(truth)
    x = truth + 0.1 * rand(1, 1, 6, 6, seed=3)
    for _ in range(400):
        x = x - A.vjp(x, A(x) - y)
    assert float(norm(A(x) - y)) < 1e-6 * float(norm(y))


@pytest.mark.parametrize("complex_", [False, True])
def test_start_is_reproducible_and_has_the_measured_energy(complex_):
    A = PhaseRetrieval(shape=(1, 8, 8), complex=complex_)
    y = A(torch.ones(2, 1, 8, 8, dtype=A.in_dtype))
    draws = [A.initial(y, torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert draws[0].shape == (2, 1, 8, 8) and draws[0].dtype == A.in_dtype
    assert bool((norm(draws[0]) <= norm(y)).all()) and torch.equal(A.initial(y), A.initial(y))


def test_variants_conform_and_wrong_arguments_are_refused():
    assert_conforms(PhaseRetrieval(shape=(1, 4, 5), complex=True))
    assert_conforms(PhaseRetrieval(shape=(1, 4, 4), oversampling=1))
    with pytest.raises(ShapeError, match=r"\(C, H, W\)"):
        PhaseRetrieval(shape=(4, 5))
    with pytest.raises(SpecError, match="oversampling"):
        PhaseRetrieval(shape=(1, 4, 5), oversampling=0.5)
