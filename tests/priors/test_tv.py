"""Exact TV against independent references, and the closed form's theorems (tv_prox.md §3)."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from pnpkit.linalg import dense, norm
from pnpkit.operators import Gradient
from pnpkit.priors import TV, ClosedFormTV

CASES = [(axes, iso, boundary) for axes in (1, 2, 3) for iso in (True, False) for boundary in ("neumann", "circular")]
SHAPES = {1: (1, 12), 2: (2, 6, 7), 3: (1, 4, 5, 6)}


def image(axes: int, seed: int = 0, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, *SHAPES[axes], dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_toy_value_and_prox():
    x = torch.tensor([[[0.0, 0.0, 1.0, 1.0]]])
    prior = TV(weight=2.0, axes=1, tol=1e-9, max_iter=5000)
    assert float(prior.value(x)) == 2.0
    # A step of height 1 between two plateaus of length 2 shrinks by tau·weight/2 on each side.
    assert torch.allclose(prior.prox(x, 0.1), torch.tensor([[[0.1, 0.1, 0.9, 0.9]]]), atol=1e-4)
    assert torch.allclose(prior.prox(x, 10.0), torch.full_like(x, 0.5), atol=1e-4)


@pytest.mark.parametrize("boundary", ["neumann", "circular"])
def test_anisotropic_prox_equals_the_dual_box_problem(boundary):
    """min ½‖z − tau Dᵀu‖² over |u| ≤ 1, solved by scipy's L-BFGS-B."""
    z = image(2)
    d = Gradient(shape=SHAPES[2], boundary=boundary).to(torch.float64)
    matrix, flat, tau = dense(d._forward, SHAPES[2], torch.float64).numpy(), z.flatten().numpy(), 0.3

    def dual(u: np.ndarray) -> tuple[float, np.ndarray]:
        r = flat - tau * matrix.T @ u
        return 0.5 * r @ r, -tau * matrix @ r

    u = minimize(
        dual,
        np.zeros(len(matrix)),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-1, 1)] * len(matrix),
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 5000},
    ).x
    reference = torch.from_numpy(flat - tau * matrix.T @ u).reshape(z.shape)
    ours = TV(weight=1.0, isotropic=False, boundary=boundary, tol=1e-11, max_iter=20000).prox(z, tau)
    assert float((ours - reference).norm() / reference.norm()) < 1e-5


def test_isotropic_prox_equals_deepinv():
    from deepinv.models import TVDenoiser

    z = image(2)[:, :1]
    reference = TVDenoiser(n_it_max=20000, crit=1e-12)(z, 0.2)
    ours = TV(weight=1.0, tol=1e-12, max_iter=20000).prox(z, 0.2)
    assert float((ours - reference).norm() / reference.norm()) < 1e-5


def test_complex_images_shrink_moduli():
    z = torch.complex(image(2), image(2, 1))
    x = TV(weight=1.0, tol=1e-10, max_iter=20000).prox(z, 0.2)
    rotated = TV(weight=1.0, tol=1e-10, max_iter=20000).prox(z * np.exp(0.7j), 0.2)
    assert torch.allclose(rotated, x * np.exp(0.7j), atol=1e-6)


def test_a_sample_does_not_depend_on_the_batch():
    z = image(2, batch=3)
    z[1] *= 100
    tau = torch.tensor([0.1, 5.0, 0.3], dtype=torch.float64)
    together = TV(weight=1.0).prox(z, tau)
    alone = torch.cat([TV(weight=1.0).prox(z[i : i + 1], tau[i]) for i in range(3)])
    assert torch.allclose(together, alone, rtol=0, atol=1e-12)


def test_terms_add_up_to_the_value():
    x = image(2)
    for iso in (True, False):
        prior = TV(weight=0.7, isotropic=iso)
        ((k, h),) = prior.terms(tuple(x.shape[1:]), x.dtype)
        assert torch.allclose(h.value(k(x)), prior.value(x))


# --- the closed form ---


def haar(v: torch.Tensor, tau: float, axes: int, iso: bool, boundary: str) -> torch.Tensor:
    """(1/K)·Wᵀ S(W v) with undecimated Haar, K = 2·axes: the published form, written independently."""
    k = 2 * axes
    dims = list(range(v.ndim - axes, v.ndim))
    original = v.shape
    if boundary == "neumann":
        for a in dims:
            v = torch.cat([v, v.narrow(a, v.shape[a] - 1, 1)], a)
    low = [(v + torch.roll(v, -1, a)) / 2**0.5 for a in dims]
    high = [(torch.roll(v, -1, a) - v) / 2**0.5 for a in dims]
    inside = [torch.ones_like(v) for _ in dims]
    if boundary == "neumann":  # the padded last row and column are not shrunk
        for mask in inside:
            for a in dims:
                mask.narrow(a, v.shape[a] - 1, 1).zero_()
    t = 2**0.5 * k * tau
    if iso:
        size = sum(h**2 for h in high) ** 0.5
        factor = (1 - t / size.clamp_min(1e-300)).clamp_min(0)
        shrunk = [h * torch.where(m > 0, factor, 1.0) for h, m in zip(high, inside, strict=True)]
    else:
        shrunk = [
            torch.where(m > 0, h.sign() * (h.abs() - t).clamp_min(0), h) for h, m in zip(high, inside, strict=True)
        ]
    total = sum((lo + torch.roll(lo, 1, a)) / 2**0.5 for lo, a in zip(low, dims, strict=True))
    total = total + sum((torch.roll(s, 1, a) - s) / 2**0.5 for s, a in zip(shrunk, dims, strict=True))
    out = total / k
    for a, n in enumerate(original):
        out = out.narrow(a, 0, n)
    return out


@pytest.mark.parametrize(("axes", "iso", "boundary"), CASES)
@pytest.mark.parametrize("tau", [1e-3, 0.05, 0.8])
def test_one_line_form_equals_the_haar_form(axes, iso, boundary, tau):
    v = image(axes)
    ours = ClosedFormTV(weight=1.0, isotropic=iso, axes=axes, boundary=boundary).prox(v, tau)
    assert float((ours - haar(v, tau, axes, iso, boundary)).abs().max()) < 1e-12


@pytest.mark.parametrize(("axes", "iso", "boundary"), CASES)
def test_it_is_a_gradient_step_on_huber_tv(axes, iso, boundary):
    v, tau = image(axes).requires_grad_(), 0.05
    delta = 4 * axes * tau
    g = Gradient(shape=SHAPES[axes], axes=axes, boundary=boundary).to(torch.float64)(v)
    size = (g**2).sum(1).add(1e-300).sqrt() if iso else g.abs()
    huber = torch.where(size < delta, size**2 / (2 * delta), size - delta / 2).sum()
    (gradient,) = torch.autograd.grad(huber, v)
    ours = ClosedFormTV(weight=1.0, isotropic=iso, axes=axes, boundary=boundary).prox(v.detach(), tau)
    assert torch.allclose(ours, v.detach() - tau * gradient, atol=1e-12)


@pytest.mark.parametrize("iso", [True, False])
def test_it_is_firmly_nonexpansive_with_a_symmetric_jacobian(iso):
    prior = ClosedFormTV(weight=1.0, isotropic=iso)
    a, b = image(2, 1, 50), image(2, 2, 50)
    pa, pb = prior.prox(a, 0.05), prior.prox(b, 0.05)
    inner = ((pa - pb) * (a - b)).flatten(1).sum(1)
    assert bool((norm(pa - pb) ** 2 <= inner + 1e-12).all())
    jacobian = torch.func.jacrev(lambda v: prior._prox(v, torch.tensor([0.05], dtype=v.dtype)))(image(2)).reshape(
        84, 84
    )
    assert torch.allclose(jacobian, jacobian.T, atol=1e-12)
    values = torch.linalg.eigvalsh(jacobian)
    assert float(values.min()) > 0 and float(values.max()) < 1 + 1e-12


def test_anisotropic_circular_tv_never_increases():
    v = image(2, 3, 300)
    tv = TV(weight=1.0, isotropic=False, boundary="circular")
    for tau in (1e-3, 0.05, 0.5, 5.0):
        after = ClosedFormTV(weight=1.0, isotropic=False, boundary="circular").prox(v, tau)
        assert bool((tv.value(after) <= tv.value(v) * (1 + 1e-12)).all())


@pytest.mark.parametrize("iso", [True, False])
def test_error_bound_and_first_order(iso):
    v = image(2)
    n, d, errors = v.numel(), 2, []
    for tau in (0.02, 0.002):
        exact = TV(weight=1.0, isotropic=iso, boundary="circular", tol=1e-12, max_iter=20000).prox(v, tau)
        error = float((ClosedFormTV(weight=1.0, isotropic=iso, boundary="circular").prox(v, tau) - exact).norm())
        assert error <= (4 * d if not iso else 4 * d**0.5) * tau * n**0.5
        errors.append(error)
    assert errors[1] < 0.2 * errors[0]


def test_limit_of_large_steps_is_a_fixed_blur():
    v = image(2)
    d = Gradient(shape=SHAPES[2], boundary="circular").to(torch.float64)
    limit = v - d.adjoint(d(v)) / 8
    assert torch.allclose(ClosedFormTV(weight=1.0, boundary="circular").prox(v, 1e6), limit, atol=1e-6)
