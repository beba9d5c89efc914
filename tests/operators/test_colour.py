"""Colour to grey, mosaics, and pansharpening as their composition."""

import pytest
import torch

from pnpkit import make
from pnpkit.errors import ShapeError, SpecError
from pnpkit.linalg import dense
from pnpkit.operators import ColourToGrey, Mosaic, SuperResolution
from pnpkit.operators.algebra import Stack


def test_luma_of_the_primaries():
    x = torch.eye(3).reshape(3, 3, 1, 1)
    assert ColourToGrey(shape=(3, 1, 1))(x).flatten().tolist() == pytest.approx([0.299, 0.587, 0.114])


@pytest.mark.parametrize("pattern", ["RGGB", "BGGR", "GRBG", "GBRG"])
def test_mosaic_cells(pattern):
    x = torch.tensor([10.0, 20.0, 30.0]).reshape(1, 3, 1, 1).expand(1, 3, 4, 6)
    y = Mosaic(shape=(3, 4, 6), pattern=pattern)(x)[0, 0]
    wanted = [{"R": 10.0, "G": 20.0, "B": 30.0}[c] for c in pattern]
    assert y[2:4, 4:6].flatten().tolist() == wanted and y[0, :2].tolist() == wanted[:2]


def test_half_of_a_mosaic_is_green():
    y = Mosaic(shape=(3, 8, 8))(torch.tensor([0.0, 1.0, 0.0]).reshape(1, 3, 1, 1).expand(1, 3, 8, 8))
    assert float(y.mean()) == 0.5


def test_pansharpening_is_a_stack_with_an_exact_adjoint_and_prox():
    """Four coarse bands and a panchromatic fine one, against dense linear algebra."""
    kernel, weights = make("gaussian_kernel", size=3, std=0.8), torch.tensor([0.2, 0.3, 0.3, 0.2])
    shape = (4, 8, 6)
    a = Stack(
        operators=(SuperResolution(kernel=kernel, factor=2, shape=shape), ColourToGrey(shape=shape, weights=weights))
    )
    a = a.double().with_cg(tol=1e-12, max_iter=500)
    matrix = dense(a, shape, torch.float64)
    assert matrix.shape == (4 * 4 * 3 + 8 * 6, 4 * 8 * 6)
    z, y = torch.rand(1, *shape, dtype=torch.float64), torch.rand(1, 96, dtype=torch.float64)
    left = torch.eye(192, dtype=torch.float64) + 0.7 * matrix.T @ matrix
    wanted = torch.linalg.solve(left, z.flatten() + 0.7 * matrix.T @ y[0]).reshape(z.shape)
    assert torch.allclose(a.prox_l2(z, y, 0.7), wanted, atol=1e-8)


def test_wrong_shapes():
    with pytest.raises(ShapeError, match="even sides"):
        Mosaic(shape=(3, 5, 4))
    with pytest.raises(ShapeError, match="one weight a channel"):
        ColourToGrey(shape=(4, 5, 4))
    with pytest.raises(SpecError, match="zero everywhere"):
        ColourToGrey(shape=(3, 5, 4), weights=torch.zeros(3))
    with pytest.raises(SpecError, match="pattern"):
        Mosaic(shape=(3, 4, 4), pattern="RGBG")  # type: ignore[arg-type]
