"""MRI against exact values, dense matrices and sigpy; variants beyond the registered example."""

import numpy as np
import pytest
import torch

import pnpkit as pk
from pnpkit.errors import ShapeError, SpecError
from pnpkit.likelihoods import Gaussian
from pnpkit.linalg import dense
from pnpkit.operators.fourier import Fourier
from pnpkit.operators.mri import MRI
from pnpkit.problem import Problem
from pnpkit.testing import assert_conforms

SIZE = (6, 5)


def randn(*shape, seed=0, dtype=torch.complex64):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def scattered(*lead, size=SIZE, seed=0):
    return (torch.rand(*lead, 1, *size, generator=torch.Generator().manual_seed(seed)) > 0.4).float()


def lines(size=SIZE, axis=-2):
    keep = torch.tensor([1.0, 0, 1, 1, 0, 1, 0, 1])[: size[axis]]
    return (keep[:, None] if axis == -2 else keep).expand(1, *size).clone()


VARIANTS = {
    "single": lambda: MRI(mask=scattered()),
    "single_even": lambda: MRI(mask=scattered(size=(4, 6)) > 0),
    "single_per_sample": lambda: MRI(mask=scattered(3)),
    "single_weights": lambda: MRI(mask=0.3 + torch.rand(1, *SIZE, generator=torch.Generator().manual_seed(4))),
    "rows": lambda: MRI(mask=lines(), maps=randn(3, *SIZE)),
    "columns": lambda: MRI(mask=lines(axis=-1), maps=randn(3, *SIZE)),
    "even": lambda: MRI(mask=scattered(size=(4, 6)), maps=randn(2, 4, 6)),
    "full": lambda: MRI(mask=torch.ones(1, *SIZE), maps=randn(2, *SIZE)),
    "one_coil": lambda: MRI(mask=scattered(), maps=randn(1, *SIZE)),
    "mask_and_maps_per_sample": lambda: MRI(mask=scattered(3), maps=randn(3, 2, *SIZE)),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_conform(name):
    assert_conforms(VARIANTS[name]())


# --- values ---


def test_exact_values():
    """2×2, centred: the spectrum of [[a, b], [c, d]] by hand; sign (−1)^(j+k) from the centre at (1, 1)."""
    a, b, c, d = 1.0, 2.0, 4.0, 8.0
    x = torch.tensor([[[[a, b], [c, d]]]], dtype=torch.complex64)
    wanted = torch.tensor([[a - b - c + d, -a - b + c + d], [-a + b - c + d, a + b + c + d]]) / 2
    y = MRI(mask=torch.ones(1, 2, 2))(x)
    torch.testing.assert_close(y[0, 0], wanted.to(torch.complex64))
    mask = torch.tensor([[[1, 0], [0, 1]]])
    torch.testing.assert_close(MRI(mask=mask)(x)[0, 0], wanted * mask[0] + 0j)


def test_a_coil_weights_the_image_before_the_transform():
    maps, x = randn(3, *SIZE), randn(2, 1, *SIZE, seed=1)
    A, F = MRI(mask=scattered(), maps=maps), Fourier(shape=(3, *SIZE))
    torch.testing.assert_close(A(x), A.mask * F(maps * x))
    assert bool((A(x)[:, :, A.mask[0] == 0] == 0).all())


@pytest.mark.parametrize("size", [(6, 8), (7, 5), (6, 5)])
def test_equal_to_sigpy_sense(size):
    sense = pytest.importorskip("sigpy.mri.linop").Sense
    maps, mask, x = randn(4, *size), scattered(size=size), randn(1, 1, *size, seed=2)
    theirs, ours = sense(maps.numpy(), weights=mask[0].numpy()), MRI(mask=mask, maps=maps)
    y = randn(1, 4, *size, seed=3)
    np.testing.assert_allclose(ours(x)[0].numpy(), theirs(x[0, 0].numpy()), atol=1e-5)
    np.testing.assert_allclose(ours.adjoint(y)[0, 0].numpy(), theirs.H(y[0].numpy()), atol=1e-5)
    np.testing.assert_allclose(ours.normal(x)[0, 0].numpy(), theirs.N(x[0, 0].numpy()), atol=3e-5)


# --- dense checks ---


@pytest.mark.parametrize("name", [n for n in VARIANTS if "per_sample" not in n])
def test_against_dense_matrices(name):
    A = VARIANTS[name]().to(torch.float64).with_cg(tol=1e-13, max_iter=2000)
    M = dense(A, A.in_shape, A.in_dtype)
    x, y = randn(1, *A.in_shape, dtype=A.in_dtype), randn(1, *A.out_shape, seed=5, dtype=A.in_dtype)
    flat = lambda t: t.reshape(-1)  # noqa: E731
    close = lambda a, b: torch.testing.assert_close(flat(a), b, rtol=1e-9, atol=1e-9)  # noqa: E731
    close(A.adjoint(y), M.mH @ flat(y))
    close(A.normal(x), M.mH @ (M @ flat(x)))
    eye = torch.eye(M.shape[1], dtype=M.dtype)
    for tau in (0.3, 20.0):
        close(A.prox_l2(x, y, tau), torch.linalg.solve(eye + tau * M.mH @ M, flat(x) + tau * (M.mH @ flat(y))))
    torch.testing.assert_close(flat(A.pinv(y)), torch.linalg.pinv(M, rtol=1e-6) @ flat(y), rtol=1e-6, atol=1e-6)
    assert float(A.norm()) == pytest.approx(float(torch.linalg.matrix_norm(M, 2)), rel=5e-3)


def test_which_forms_are_closed():
    assert MRI(mask=scattered()).gram().basis == "fourier2"
    assert MRI(mask=scattered(), maps=randn(2, *SIZE)).gram() is None
    full = MRI(mask=torch.ones(1, *SIZE), maps=randn(2, *SIZE))
    assert full.gram().basis == "pixel"
    torch.testing.assert_close(full.gram().values[0, 0], full.maps.abs().square().sum(0))


def test_single_coil_keeps_its_closed_form_under_noise_per_sample_of_kspace():
    """Per-element sigma whitens k-space: still diagonal there, so prox solves without CG."""
    A = MRI(mask=scattered()).to(torch.float64)
    sigma = 0.5 + torch.rand(1, 1, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y, z = randn(1, 1, *SIZE, dtype=torch.complex128), randn(1, 1, *SIZE, seed=9, dtype=torch.complex128)
    problem = Problem(A, Gaussian(sigma=sigma), y)
    x = problem.prox(z, 0.7)
    left = x - z + 0.7 * problem.grad(x)
    assert float(left.abs().max()) < 1e-12


def test_rows_are_kspace_lines():
    A, x = MRI(mask=lines(), maps=randn(2, *SIZE)), randn(1, 1, *SIZE)
    idx = torch.tensor([5, 0, 3])
    torch.testing.assert_close(A.rows(idx)(x), A(x)[:, :, idx])
    assert MRI(mask=scattered()).rows(idx).gram().basis == "fourier2"


# --- parameters ---


def test_thetas_are_those_that_are_there():
    assert dict(MRI(mask=scattered()).theta) == {"mask": 3}
    both = MRI(mask=scattered(), maps=randn(2, *SIZE))
    assert dict(both.theta) == {"mask": 3, "maps": 3} and both.linear_in == ("mask", "maps")
    assert both.batch is None and both.at(mask=scattered(4)).batch == 4


def test_shared_mask_with_maps_per_sample():
    maps, x = randn(3, 2, *SIZE), randn(3, 1, *SIZE, seed=1)
    A = MRI(mask=scattered(), maps=maps)
    each = torch.cat([MRI(mask=A.mask, maps=maps[i])(x[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(A(x), each)
    torch.testing.assert_close(A.normal(x), A.adjoint(A(x)), rtol=1e-4, atol=1e-5)
    with pytest.raises(ShapeError, match="3"):
        A(x[:2])


@pytest.mark.parametrize("mask", [torch.ones(1, *SIZE), lines(), lines(axis=-1)], ids=["full", "rows", "columns"])
def test_gradient_reaches_every_entry_of_a_structured_mask(mask):
    """The short cuts for masks that are equal along an axis must not swallow the gradient."""
    A = MRI(mask=mask, maps=randn(2, *SIZE)).to(torch.float64)
    x = randn(1, 1, *SIZE, dtype=torch.complex128, seed=3)
    value = A.mask.clone().requires_grad_()
    A.at(mask=value).normal(x).abs().square().sum().backward()
    step, wanted = 1e-6, torch.zeros_like(A.mask)
    for i in range(SIZE[0]):
        for j in range(SIZE[1]):
            delta = torch.zeros_like(A.mask)
            delta[0, i, j] = step
            up, down = (A.at(mask=A.mask + s * delta).normal(x).abs().square().sum() for s in (1, -1))
            wanted[0, i, j] = (up - down) / (2 * step)
    torch.testing.assert_close(value.grad, wanted, rtol=1e-6, atol=1e-6)


def test_coils_can_be_solved_for():
    """y is linear in the maps at a fixed image: least squares recovers them where the image is not 0."""
    maps, x = randn(2, *SIZE, dtype=torch.complex128), randn(1, 1, *SIZE, dtype=torch.complex128, seed=1)
    A = MRI(mask=torch.ones(1, *SIZE, dtype=torch.float64), maps=maps)
    found = A.in_theta("maps", x).with_cg(tol=1e-12, max_iter=500).pinv(A(x))
    torch.testing.assert_close(found[0], maps, rtol=1e-6, atol=1e-6)


def test_precision_moves_and_the_input_stays():
    A = MRI(mask=scattered(), maps=randn(2, *SIZE))
    x = randn(2, 1, *SIZE)
    kept = x.clone()
    single = A(x)
    wide = A.to(torch.float64)(x.to(torch.complex128))
    assert wide.dtype == torch.complex128 and torch.equal(x, kept)
    torch.testing.assert_close(single, wide.to(torch.complex64))


# --- by name, and refusals ---


def test_from_a_config():
    A = pk.operator(
        {
            "name": "mri",
            "mask": {"make": "line_mask", "shape": [1, 16, 12], "acceleration": 2, "calib": 4},
            "maps": {"make": "birdcage_maps", "shape": [4, 16, 12]},
        }
    )
    assert A.out_shape == (4, 16, 12) and float(A.norm()) <= 1.02


@pytest.mark.parametrize(
    ("kwargs", "error", "words"),
    [
        ({"mask": torch.zeros(1, 4, 4)}, SpecError, "zero everywhere"),
        ({"mask": torch.stack([torch.ones(1, 4, 4), torch.zeros(1, 4, 4)])}, SpecError, "zero everywhere"),
        ({"mask": torch.ones(4, 4)}, ShapeError, "1, H, W"),
        ({"mask": torch.ones(2, 4, 4)}, ShapeError, "1, H, W"),
        ({"mask": torch.ones(1, 4, 4) + 0j}, SpecError, "real"),
        ({"mask": -torch.ones(1, 4, 4)}, SpecError, "≥ 0"),
        ({"mask": torch.full((1, 4, 4), torch.nan)}, SpecError, "NaN"),
        ({"mask": torch.ones(1, 4, 4), "maps": torch.ones(2, 4, 5) + 0j}, ShapeError, "maps must be"),
        ({"mask": torch.ones(1, 4, 4), "maps": torch.ones(2, 4, 4)}, SpecError, "complex"),
        ({"mask": torch.ones(1, 4, 4), "maps": torch.zeros(2, 4, 4) + 0j}, SpecError, "zero everywhere"),
        ({"mask": torch.ones(2, 1, 4, 4), "maps": torch.ones(3, 2, 4, 4) + 0j}, ShapeError, "batch"),
        ({"mask": torch.ones(1, 4, 4), "map": torch.ones(2, 4, 4)}, SpecError, "maps"),
    ],
)
def test_refused(kwargs, error, words):
    with pytest.raises(error, match=words):
        MRI(**kwargs)
