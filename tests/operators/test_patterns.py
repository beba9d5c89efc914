"""Hadamard coefficients, coded diffraction, varying blur, and the makers of their patterns."""

import numpy as np
import pytest
import torch
from scipy.linalg import hadamard

from pnpkit import make
from pnpkit.errors import ShapeError, SpecError
from pnpkit.likelihoods import Gaussian
from pnpkit.operators import Blur, CodedDiffraction, Hadamard, VaryingBlur
from pnpkit.problem import Problem
from pnpkit.solvers import GradientDescent
from pnpkit.solvers.base import solve


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- Hadamard ---


def test_the_fast_transform_is_scipys_matrix():
    x = torch.rand(2, 1, 4, 8, dtype=torch.float64, generator=rng())
    y = Hadamard(shape=(1, 4, 8)).double()(x)
    assert np.allclose(y[:, 0].numpy(), x.flatten(1).numpy() @ hadamard(32) / 32**0.5)


def test_chosen_coefficients_come_in_the_order_asked_for():
    x = torch.rand(1, 2, 4, 4, generator=rng())
    index = torch.tensor([7, 0, 3])
    assert torch.equal(Hadamard(shape=(2, 4, 4), index=index)(x), Hadamard(shape=(2, 4, 4))(x)[..., index])


@pytest.mark.parametrize("shape", [(4, 4), (8, 2), (1, 16)])
def test_lowest_sequencies_first(shape):
    """By counting the sign changes of every pattern."""
    height, width = shape
    patterns = hadamard(height * width).reshape(-1, height, width)
    rows = (np.diff(patterns[:, :, 0], axis=1) != 0).sum(1)
    columns = (np.diff(patterns[:, 0, :], axis=1) != 0).sum(1)
    for m in (1, 3, height * width):
        chosen = make("hadamard_order", shape=shape, m=m).tolist()
        assert len(set(chosen)) == m
        rest = [i for i in range(height * width) if i not in chosen]
        worst = max((rows + columns)[chosen])
        assert all((rows + columns)[i] >= worst for i in rest)


def test_low_sequencies_hold_most_of_a_smooth_image():
    y, x = torch.meshgrid(torch.linspace(0, 3, 32), torch.linspace(0, 2, 32), indexing="ij")
    image = (torch.sin(x) * torch.cos(y))[None, None]
    a = Hadamard(shape=(1, 32, 32), index=make("hadamard_order", shape=(32, 32), m=205))  # a fifth
    assert float((a.pinv(a(image)) - image).norm() / image.norm()) < 0.1


def test_wrong_hadamard():
    with pytest.raises(ShapeError, match="power of two"):
        Hadamard(shape=(1, 6, 8))
    for index in (torch.tensor([0, 0]), torch.tensor([64]), torch.tensor([-1])):
        with pytest.raises(SpecError, match="each once"):
            Hadamard(shape=(1, 8, 8), index=index)
    with pytest.raises(SpecError, match="integers"):
        Hadamard(shape=(1, 8, 8), index=torch.tensor([0.5]))
    with pytest.raises(SpecError, match="at most 64"):
        make("hadamard_order", shape=(8, 8), m=65)


# --- coded diffraction ---


def test_coded_diffraction_by_hand():
    codes = make("phase_codes", shape=(4, 6), n=3, seed=1)
    x = torch.randn(2, 1, 4, 6, dtype=torch.complex64, generator=rng())
    y = CodedDiffraction(codes=codes, shape=(1, 4, 6), complex=True)(x)
    wanted = torch.stack([torch.fft.fft2(c * x[:, 0], norm="ortho").abs() for c in codes], 1)
    assert torch.allclose(y, wanted, atol=1e-5)
    assert torch.allclose(y.square().sum((1, 2, 3)), 3 * x.abs().square().sum((1, 2, 3)), rtol=1e-5)


def test_an_image_comes_back_from_eight_patterns_up_to_its_sign():
    operator = CodedDiffraction(codes=make("phase_codes", shape=(16, 16), n=8), shape=(1, 16, 16)).double()
    x = torch.rand(1, 1, 16, 16, dtype=torch.float64, generator=rng(3))
    problem = Problem(operator, Gaussian(sigma=0.01).double(), operator(x))
    found = solve(problem, None, GradientDescent(n_steps=600)).x
    error = min(float((s * found - x).norm() / x.norm()) for s in (1, -1))
    assert error < 1e-3


def test_phase_codes_are_the_four_units():
    codes = make("phase_codes", shape=(40, 50), n=2, seed=4)
    counts = [int((codes == u).sum()) for u in (1, 1j, -1, -1j)]
    assert sum(counts) == 4000 and min(counts) > 850


# --- varying blur ---


def test_one_kernel_with_a_map_of_ones_is_blur():
    kernel = torch.rand(1, 3, 4, generator=rng())
    x = torch.rand(2, 2, 8, 9, generator=rng(1))
    varying = VaryingBlur(kernels=kernel[None], maps=torch.ones(1, 8, 9), shape=(2, 8, 9))
    assert torch.allclose(varying(x), Blur(kernel=kernel, shape=(2, 8, 9))(x), atol=1e-5)


def test_a_point_is_blurred_by_the_kernels_at_its_place():
    kernels, maps = torch.rand(4, 1, 3, 3, generator=rng()), make("blend_maps", shape=(12, 16), rows=2, columns=2)
    a = VaryingBlur(kernels=kernels, maps=maps, shape=(1, 12, 16))
    for i, j in ((3, 4), (6, 8), (9, 2)):
        x = torch.zeros(1, 1, 12, 16)
        x[..., i, j] = 1
        wanted = torch.einsum("k,kchw->chw", maps[:, i, j], kernels)
        assert torch.allclose(a(x)[0, :, i - 1 : i + 2, j - 1 : j + 2], wanted, atol=1e-6)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 3), (4, 1)])
def test_maps_sum_to_one_and_peak_at_their_centres(rows, columns):
    maps = make("blend_maps", shape=(12, 18), rows=rows, columns=columns)
    assert maps.shape == (rows * columns, 12, 18) and torch.allclose(maps.sum(0), torch.ones(12, 18), atol=1e-6)
    assert float(maps.min()) >= 0 and all(float(m.max()) > 0.9 for m in maps)


def test_wrong_varying_blur():
    with pytest.raises(ShapeError, match="kernels are"):
        VaryingBlur(kernels=torch.rand(2, 1, 3, 3), maps=torch.rand(3, 8, 8), shape=(1, 8, 8))
    with pytest.raises(ShapeError, match="do not fit"):
        VaryingBlur(kernels=torch.rand(2, 1, 3, 3), maps=torch.rand(2, 8, 9), shape=(1, 8, 8))
    with pytest.raises(ShapeError, match="larger than the image"):
        VaryingBlur(kernels=torch.rand(2, 1, 9, 3), maps=torch.rand(2, 8, 8), shape=(1, 8, 8))
