"""CG, LSQR and the power norm against NumPy, at scales from 1e-8 to 1e8, per sample."""

import numpy as np
import pytest
import torch

from pnpkit import linalg

SCALES = [1e-8, 1e-3, 1.0, 1e4, 1e8]
F64 = torch.float64


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, dtype=F64, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=rng(seed))


def positive(n: int, dtype=F64, seed: int = 1) -> torch.Tensor:
    m = randn(n, n, dtype=dtype, seed=seed)
    return m @ m.mH / n + 0.1 * torch.eye(n, dtype=dtype)


def apply(m: torch.Tensor):
    return lambda x: x @ m.T


# --- inner products and norms ---


@pytest.mark.parametrize("dtype", [F64, torch.complex128])
def test_inner_and_norm_are_real_and_per_sample(dtype):
    a, b = randn(3, 2, 4, dtype=dtype, seed=1), randn(3, 2, 4, dtype=dtype, seed=2)
    wanted = [np.vdot(x.numpy(), y.numpy()).real for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(linalg.inner(a, b).numpy(), wanted, rtol=1e-12)
    np.testing.assert_allclose(linalg.norm(a).numpy() ** 2, linalg.inner(a, a).numpy(), rtol=1e-12)
    assert not linalg.inner(a, b).is_complex()


def test_norm_does_not_overflow_or_underflow_in_float32():
    x = torch.full((1, 4), 1e-30)
    assert float(linalg.norm(x)) == pytest.approx(2e-30)


def test_expand_shapes_per_sample_values_only():
    x = torch.zeros(3, 2, 4)
    assert linalg.expand(torch.ones(3), x).shape == (3, 1, 1)
    assert linalg.expand(2.0, x) == 2.0
    assert linalg.expand(torch.tensor(2.0), x).ndim == 0


# --- conjugate gradients ---


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dtype", [F64, torch.complex128])
def test_cg_solves_at_every_scale_of_data_and_operator(scale, dtype):
    m, b = positive(12, dtype), randn(3, 12, dtype=dtype, seed=3)
    for data, operator in ((scale, 1.0), (1.0, scale), (scale, scale)):
        x, report = linalg.cg(apply(operator * m), data * b, tol=1e-12, max_iter=100)
        wanted = np.linalg.solve(m.numpy(), b.numpy().T).T * data / operator
        np.testing.assert_allclose(x.numpy(), wanted, rtol=1e-9, atol=1e-11 * np.abs(wanted).max())
        assert bool(report.converged.all()) and report.iterations <= 25


def test_cg_takes_the_same_number_of_steps_at_every_scale():
    m, b = positive(12), randn(2, 12, seed=3)
    counts = {linalg.cg(apply(m), s * b, tol=1e-6)[1].iterations for s in SCALES}
    assert len(counts) == 1


def test_cg_stops_every_sample_by_itself():
    """An easy sample is done early and stays bitwise what it was alone, whatever is beside it."""
    m = positive(12)
    values, vectors = torch.linalg.eigh(m)
    easy, hard = vectors[:, 0], randn(12, seed=4)
    together, report = linalg.cg(apply(m), torch.stack([easy, 1e6 * hard, 0 * hard]), tol=1e-10)
    alone, short = linalg.cg(apply(m), easy[None], tol=1e-10)
    assert short.iterations <= 2 < report.iterations
    torch.testing.assert_close(together[0], easy / values[0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(together[0], alone[0], rtol=1e-13, atol=1e-15)
    assert torch.equal(together[2], torch.zeros(12, dtype=F64)) and bool(report.converged.all())


def test_cg_of_zero_is_zero_without_a_step():
    x, report = linalg.cg(apply(positive(5)), torch.zeros(2, 5, dtype=F64))
    assert torch.equal(x, torch.zeros(2, 5, dtype=F64)) and report.iterations == 0
    assert bool(report.converged.all()) and torch.equal(report.residual, torch.zeros(2, dtype=F64))


def test_cg_started_at_the_solution_stays_there_and_does_not_write_into_it():
    m, b = positive(8), randn(2, 8, seed=5)
    x0, _ = linalg.cg(apply(m), b, tol=1e-13)
    before = x0.clone()
    x, report = linalg.cg(apply(m), b, x0=x0, tol=1e-8)
    assert report.iterations == 0 and torch.equal(x, before) and torch.equal(x0, before)
    x, _ = linalg.cg(apply(m), b, x0=x0 + 1, tol=1e-12)
    assert torch.equal(x0, before)
    torch.testing.assert_close(x, before)


def test_cg_of_a_singular_consistent_system():
    m = torch.diag(torch.tensor([3.0, 2.0, 0.0], dtype=F64))
    x, report = linalg.cg(apply(m), torch.tensor([[3.0, 4.0, 0.0]], dtype=F64), tol=1e-12)
    torch.testing.assert_close(x, torch.tensor([[1.0, 2.0, 0.0]], dtype=F64))
    assert bool(report.converged.all())


def test_cg_says_when_it_did_not_get_there():
    m = torch.diag(torch.logspace(0, 8, 40, dtype=F64))
    _, report = linalg.cg(apply(m), torch.ones(1, 40, dtype=F64), tol=1e-12, max_iter=3)
    assert report.iterations == 3 and not bool(report.converged) and float(report.residual) > 1e-12
    assert "3 iterations, worst relative residual" in str(report)


def test_cg_is_differentiable():
    m = positive(6)
    b = randn(1, 6, seed=6).requires_grad_()
    v = randn(6, seed=7)
    x, _ = linalg.cg(apply(m), b, tol=1e-13)
    (g,) = torch.autograd.grad((x[0] * v).sum(), b)
    torch.testing.assert_close(g[0], torch.linalg.solve(m, v), rtol=1e-7, atol=1e-9)


# --- LSQR ---


@pytest.mark.parametrize("shape", [(15, 8), (8, 15), (9, 9)], ids=["tall", "wide", "square"])
@pytest.mark.parametrize("dtype", [F64, torch.complex128])
@pytest.mark.parametrize("scale", SCALES)
def test_lsqr_is_the_pseudo_inverse_at_every_scale(shape, dtype, scale):
    a, y = randn(*shape, dtype=dtype, seed=8), randn(3, shape[0], dtype=dtype, seed=9)
    x, report = linalg.lsqr(apply(scale * a), apply(scale * a.mH), y / scale, tol=1e-13, max_iter=300)
    wanted = (np.linalg.pinv(a.numpy()) @ y.numpy().T).T / scale**2
    np.testing.assert_allclose(x.numpy(), wanted, rtol=1e-6, atol=1e-8 * np.abs(wanted).max())
    assert bool(report.converged.all())


@pytest.mark.parametrize("damp", [0.1, 1.0, 30.0])
def test_lsqr_damped_is_ridge_regression(damp):
    a, y = randn(15, 8, seed=8), randn(3, 15, seed=9)
    x, _ = linalg.lsqr(apply(a), apply(a.T), y, damp=damp, tol=1e-13, max_iter=300)
    wanted = torch.linalg.solve(a.T @ a + damp**2 * torch.eye(8, dtype=F64), a.T @ y.T).T
    torch.testing.assert_close(x, wanted, rtol=1e-8, atol=1e-10)


def test_lsqr_of_rank_deficient_systems_has_minimum_norm():
    a = randn(10, 3, seed=10) @ randn(3, 8, seed=11)
    y = randn(2, 10, seed=12)
    x, _ = linalg.lsqr(apply(a), apply(a.T), y, tol=1e-12, max_iter=200)
    np.testing.assert_allclose(
        x.numpy(), (np.linalg.pinv(a.numpy(), rcond=1e-10) @ y.numpy().T).T, rtol=1e-6, atol=1e-8
    )


def test_lsqr_stops_every_sample_by_itself_and_zero_gives_zero():
    a, y = randn(15, 8, seed=8), randn(3, 15, seed=9)
    y = y * torch.tensor([1.0, 1e6, 0.0], dtype=F64)[:, None]
    x, report = linalg.lsqr(apply(a), apply(a.T), y, tol=1e-10, max_iter=200)
    for i in range(2):
        alone, _ = linalg.lsqr(apply(a), apply(a.T), y[i : i + 1], tol=1e-10, max_iter=200)
        torch.testing.assert_close(x[i], alone[0], rtol=1e-8, atol=0)
    assert torch.equal(x[2], torch.zeros(8, dtype=F64)) and bool(report.converged.all())


def test_lsqr_with_data_orthogonal_to_the_range_gives_zero_and_no_nan():
    a = torch.tensor([[1.0], [0.0]], dtype=F64)
    x, report = linalg.lsqr(apply(a), apply(a.T), torch.tensor([[0.0, 2.0]], dtype=F64))
    assert torch.equal(x, torch.zeros(1, 1, dtype=F64)) and bool(report.converged.all())


def test_lsqr_says_when_it_did_not_get_there():
    a = torch.diag(torch.logspace(0, -6, 40, dtype=F64))
    _, report = linalg.lsqr(apply(a), apply(a.T), torch.ones(1, 40, dtype=F64), tol=1e-12, max_iter=3)
    assert report.iterations == 3 and not bool(report.converged)


# --- norms and matrices ---


@pytest.mark.parametrize("scale", [1e-10, 3e-3, 1.0, 1e7])
@pytest.mark.parametrize("dtype", [torch.float32, F64, torch.complex64])
def test_power_norm_at_every_scale(scale, dtype):
    """The case that broke another library: a diagonal operator scaled by 3e-3, with an absolute tolerance."""
    d = scale * torch.linspace(0.1, 1, 50, dtype=dtype.to_real())
    value = linalg.power_norm(lambda x: d * d * x, (1, 50), dtype)
    assert value.shape == (1,) and not value.is_complex()
    assert scale * 0.995 <= float(value) <= scale * 1.02


def test_power_norm_per_sample_and_of_clustered_singular_values():
    d = torch.stack([torch.linspace(0.99, 1, 40), 100 * torch.linspace(0, 1, 40), torch.zeros(40)])
    value = linalg.power_norm(lambda x: d * d * x, (3, 40), torch.float32)
    torch.testing.assert_close(value, torch.tensor([1.0, 100.0, 0.0]), rtol=5e-3, atol=0)


def test_power_norm_leaves_the_global_generator_alone_and_is_repeatable():
    state = torch.get_rng_state()
    m = positive(20).float()
    one, two = (linalg.power_norm(apply(m), (1, 20), torch.float32) for _ in range(2))
    assert torch.equal(one, two) and torch.equal(torch.get_rng_state(), state)


def test_dense_is_the_matrix():
    a = randn(6, 4, dtype=torch.complex128)
    assert torch.allclose(linalg.dense(apply(a), (4,), torch.complex128), a)
