"""SciPy and sigpy: their parts as ours pass our conformance suite, ours as theirs run in their solvers."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import aslinearoperator, lsqr

from pnpkit import make
from pnpkit.bridges.scipy import from_scipy, to_scipy
from pnpkit.bridges.sigpy import from_sigpy, prox_from_sigpy, prox_to_sigpy, to_sigpy
from pnpkit.errors import ShapeError, SpecError
from pnpkit.operators import MRI, Blur, Inpainting
from pnpkit.priors import L1
from pnpkit.testing import run_checks


def bad(component) -> list[str]:
    """What fails, other than saving: a spec cannot hold another library's objects, and says so."""
    return [f"{o.name}: {o.message}" for o in run_checks(component) if o.bad and "cannot be saved" not in o.message]


def matrix(complex: bool = False) -> np.ndarray:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((20, 12)).astype(np.float32)
    return (a + 1j * rng.standard_normal(a.shape)).astype(np.complex64) if complex else a


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, aslinearoperator])
@pytest.mark.parametrize("complex", [False, True])
def test_matrices(form, complex):
    a = from_scipy(form(matrix(complex)), (1, 3, 4))
    x = torch.randn(2, 1, 3, 4, dtype=a.in_dtype)
    assert torch.allclose(a(x), torch.from_numpy(x.flatten(1).numpy() @ matrix(complex).T), atol=1e-5)
    y = torch.randn(2, 20, dtype=a.out_dtype)
    assert torch.allclose(a.adjoint(y).flatten(1), torch.from_numpy(y.numpy() @ matrix(complex).conj()), atol=1e-5)
    assert bad(a) == []


def test_double_matrices_make_double_operators_and_shapes_are_checked():
    a = from_scipy(matrix().astype(np.float64), (1, 3, 4), (4, 5))
    assert a.in_dtype == torch.float64 and a.out_shape == (4, 5)
    with pytest.raises(ShapeError, match="20×12 matrix"):
        from_scipy(matrix(), (1, 4, 4))


def test_our_operators_in_scipys_lsqr():
    ours = Blur(kernel=make("gaussian_kernel", size=3, std=0.7).double(), shape=(1, 8, 6))
    theirs = to_scipy(ours)
    x = np.random.default_rng(1).standard_normal(48)
    assert theirs.shape == (48, 48) and theirs.dtype == np.float64
    found = lsqr(theirs, theirs @ x, atol=1e-12, btol=1e-12, iter_lim=500)[0]
    assert np.allclose(found, x, atol=1e-5)
    many = np.random.default_rng(2).standard_normal((48, 5))
    assert np.allclose(theirs @ many, np.stack([theirs @ c for c in many.T], 1))


def test_complex_operators_in_scipy():
    ours = MRI(mask=make("line_mask", shape=(1, 8, 6), acceleration=2.0, calib=2).float())
    theirs = to_scipy(ours)
    x = (np.random.default_rng(0).standard_normal(48) * (1 + 2j)).astype(np.complex64)
    wanted = ours(torch.from_numpy(x).reshape(1, 1, 8, 6)).flatten().numpy()
    assert theirs.dtype == np.complex64 and np.allclose(theirs.matvec(x), wanted, atol=1e-5)
    per_sample = Inpainting(mask=torch.ones(2, 1, 4, 4))
    with pytest.raises(ShapeError, match="per sample"):
        to_scipy(per_sample)


def test_sigpy_linops():
    import sigpy
    from sigpy.mri.linop import Sense

    maps = np.random.default_rng(0).standard_normal((3, 8, 6)).astype(np.complex64)
    theirs = Sense(maps)
    ours = from_sigpy(theirs)
    assert (ours.in_shape, ours.out_shape) == ((1, 8, 6), (3, 8, 6))
    x = torch.randn(2, 1, 8, 6, dtype=torch.complex64)
    same = MRI(mask=torch.ones(1, 8, 6), maps=torch.from_numpy(maps))
    assert torch.allclose(ours(x), same(x), atol=1e-5) and torch.allclose(ours.normal(x), same.normal(x), atol=1e-4)
    assert bad(ours) == []
    real = from_sigpy(sigpy.linop.FiniteDifference((8, 6)), complex=False)
    assert real.out_shape == (2, 8, 6) and bad(real) == []
    with pytest.raises(ShapeError, match="Linop takes"):
        from_sigpy(theirs, in_shape=(1, 9, 6))


def test_our_operators_in_a_sigpy_app():
    from sigpy.app import LinearLeastSquares

    ours = Blur(kernel=make("gaussian_kernel", size=3, std=0.6), shape=(1, 8, 6))
    theirs = to_sigpy(ours)
    x = np.random.default_rng(0).standard_normal((1, 8, 6)).astype(np.float32)
    y = theirs * x
    assert np.allclose(theirs.H * y, ours.adjoint(torch.from_numpy(y)[None])[0].numpy(), atol=1e-5)
    assert np.allclose(theirs.H.H * x, y, atol=1e-6)
    found = LinearLeastSquares(theirs, y, max_iter=200, show_pbar=False).run()
    assert np.allclose(found, x, atol=1e-2)


def test_prox_both_ways():
    import sigpy

    theirs = sigpy.prox.L1Reg((1, 4, 5), 0.3)
    ours, z = prox_from_sigpy(theirs), torch.randn(2, 1, 4, 5, generator=torch.Generator().manual_seed(0))
    tau = torch.tensor([0.5, 2.0])
    assert torch.allclose(ours.prox(z, tau), L1(weight=0.3).prox(z, tau), atol=1e-6)
    back = prox_to_sigpy(L1(weight=0.3), (1, 4, 5))
    assert np.allclose(back(0.5, z[0].numpy()), theirs(0.5, z[0].numpy()))
    with pytest.raises(SpecError, match=r"sigpy\.prox\.Prox"):
        prox_from_sigpy(lambda a, x: x)
