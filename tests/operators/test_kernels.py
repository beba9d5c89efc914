"""Kernel makers: moments, orientation, determinism."""

import numpy as np
import pytest
import torch
from scipy import ndimage

import pnpkit as pk
from pnpkit.errors import PnpkitError

KERNELS = {
    "gaussian_kernel": {"size": 15, "std": 1.7},
    "anisotropic_gaussian_kernel": {"size": 21, "std_x": 3.0, "std_y": 1.0, "angle_deg": 30.0},
    "motion_kernel": {"size": 17, "seed": 4},
    "bicubic_kernel": {"factor": 3},
}


def moments(kernel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Centre of mass relative to (h//2, w//2), and the covariance, in (row, column)."""
    k = kernel[0].double()
    grid = torch.stack(torch.meshgrid(*(torch.arange(n, dtype=torch.float64) - n // 2 for n in k.shape), indexing="ij"))
    mean = (grid * k).sum((1, 2))
    offset = grid - mean[:, None, None]
    return mean, torch.einsum("ahw,bhw,hw->ab", offset, offset, k)


@pytest.mark.parametrize("name", KERNELS)
def test_sum_shape_and_no_global_generator(name):
    before = torch.get_rng_state()
    kernel = pk.make(name, **KERNELS[name])
    assert kernel.ndim == 3 and kernel.shape[0] == 1 and float(kernel.sum()) == pytest.approx(1, abs=1e-6)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(kernel, pk.make(name, **KERNELS[name]))


def test_gaussian_is_scipys():
    impulse = np.zeros((31, 31))
    impulse[15, 15] = 1
    wanted = ndimage.gaussian_filter(impulse, 1.7, truncate=15 / 1.7)
    assert np.allclose(pk.make("gaussian_kernel", size=31, std=1.7)[0], wanted, atol=1e-7)


def test_anisotropic_gaussian_has_the_axes_it_was_asked_for():
    kernel = pk.make("anisotropic_gaussian_kernel", size=41, std_x=4.0, std_y=1.5, angle_deg=30.0)
    mean, covariance = moments(kernel)
    values, vectors = torch.linalg.eigh(covariance)
    assert torch.allclose(mean, torch.zeros(2, dtype=torch.float64), atol=1e-6)
    assert values.sqrt().tolist() == pytest.approx([1.5, 4.0], rel=1e-2)
    row, column = vectors[:, 1] * vectors[1, 1].sign()
    assert float(torch.rad2deg(torch.atan2(row, column))) == pytest.approx(30, abs=0.5)  # towards the rows


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [5, 16, 25])
def test_motion_is_centred_non_negative_and_as_long_as_asked(size, seed):
    kernel = pk.make("motion_kernel", size=size, seed=seed, extent=0.8)
    mean, _ = moments(kernel)
    assert float(kernel.min()) >= 0 and float(mean.abs().max()) < 0.01
    assert not torch.equal(kernel, pk.make("motion_kernel", size=size, seed=seed + 1, extent=0.8))
    straight = pk.make("motion_kernel", size=25, seed=seed, roughness=0.0)
    values = torch.linalg.eigvalsh(moments(straight)[1])
    assert float(values[0] / values[1]) < 0.02  # a line


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("gaussian_kernel", {"size": 0, "std": 1.0}),
        ("gaussian_kernel", {"size": 5, "std": 0.0}),
        ("gaussian_kernel", {"size": 5, "sigma": 1.0}),
        ("motion_kernel", {"size": 9, "seed": 0, "extent": 1.5}),
        ("motion_kernel", {"size": 9}),
    ],
)
def test_bad_requests(name, bad):
    with pytest.raises(PnpkitError, match=name):
        pk.make(name, **bad)
