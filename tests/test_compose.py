"""compose: defaults, checks, units, NumPy in and out, batches, notes."""

import numpy as np
import pytest
import torch

import pnpkit as pk
from pnpkit.errors import CapabilityError, DataError, ShapeError, SpecError
from pnpkit.priors.base import Denoiser, Domain


class Shrink(Denoiser):
    """The exact denoiser of pixels that are i.i.d. N(0.5, 0.2²); not registered on purpose."""

    domain = Domain(value_range=(0.0, 1.0))

    def _denoise(self, x, sigma):
        gain = (0.04 / (0.04 + sigma**2)).reshape(-1, 1, 1, 1)
        return 0.5 + gain * (x - 0.5)


@pytest.fixture
def operator():
    mask = (torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.4).float()
    return pk.operators.Inpainting(mask=mask)


@pytest.fixture
def y(operator, rng):
    return operator(torch.rand(3, 1, 8, 8, generator=rng))


def test_priors_of_a_blind_solver_from_a_mapping():
    kernel = pk.make("gaussian_kernel", size=8, std=1.0)
    blur = pk.operators.Blur(kernel=kernel, shape=(1, 16, 16))
    y = pk.Gaussian(0.05).sample(blur(torch.rand(1, 1, 16, 16)), torch.Generator().manual_seed(0))
    solver, prior = {"name": "blind_pnp_dm", "n_steps": 2, "burn_in": 1}, {"x": "photos_gray", "theta": "blur_kernels"}
    result = pk.compose(blur, prior=prior, solver=solver, noise=pk.Gaussian(0.05))(y)
    assert result.x.shape == y.shape and result.theta.shape == (1, *kernel.shape)
    with pytest.raises(CapabilityError, match=r"needs prior\.theta to provide denoise; no prior provides nothing"):
        pk.compose(blur, prior={"x": "photos_gray"}, solver=solver, noise=pk.Gaussian(0.05))


def test_three_lines_from_names_and_mappings(y):
    mask = torch.ones(1, 8, 8)
    reconstruct = pk.compose(
        operator={"name": "inpainting", "mask": mask},
        prior={"name": "tikhonov", "weight": 1e-6},
        solver={"name": "fista", "n_steps": 50},
        noise={"name": "gaussian", "sigma": 0.1},
    )
    assert torch.allclose(reconstruct(y).x, y, atol=1e-5)


def test_numpy_in_numpy_out_and_the_cast_is_reported(operator, y):
    array = y.numpy().astype(np.float64)
    before = array.copy()
    result = pk.compose(operator, solver="cg", noise=pk.Gaussian(0.1))(array)
    assert isinstance(result.x, np.ndarray) and result.x.shape == (3, 1, 8, 8)
    assert any("float64" in note for note in result.notes)
    assert np.array_equal(array, before)


def test_one_image_in_one_image_out(operator, y):
    reconstruct = pk.compose(operator, solver="cg", noise=pk.Gaussian(0.1))
    one, all_ = reconstruct(y[0]).x, reconstruct(y).x
    assert one.shape == (1, 8, 8)
    assert torch.allclose(one, all_[0], atol=1e-6)


def test_defaults_are_chosen_and_said(operator, y):
    reconstruct = pk.compose(operator, noise=pk.Gaussian(0.05))
    assert type(reconstruct.prior).__name__ == "TV" and reconstruct.notes
    assert torch.isfinite(reconstruct(y).x).all()


def test_a_weight_that_is_left_out_suits_operator_and_noise(operator, y):
    """Of order 1/sigma: scaling data and noise together scales the image and nothing else."""
    small = pk.compose(operator, "tv", noise=pk.Gaussian(0.05))
    assert any("tv with weight" in note for note in small.notes)
    big = pk.compose(operator, ["tv", {"name": "box", "low": -1e9, "high": 1e9}], noise=pk.Gaussian(5.0))
    alone = pk.compose(operator, ["tv", {"name": "box", "low": -1e7, "high": 1e7}], noise=pk.Gaussian(0.05))
    assert torch.allclose(big(100 * y).x / 100, alone(y).x, rtol=1e-3, atol=1e-4)
    assert small.prior.weight == pytest.approx(100 * pk.compose(operator, "tv", noise=pk.Gaussian(5.0)).prior.weight)
    with pytest.raises(SpecError, match="weight"):
        pk.compose(operator, "tikhonov", noise=pk.Gaussian(0.05))


def test_default_solver_follows_the_noise_and_the_prior(operator):
    poisson = pk.compose(operator, noise=pk.Poisson(gain=100.0))
    assert type(poisson.solver).__name__ == "MLEM"
    several = pk.compose(operator, prior=[{"name": "tikhonov", "weight": 1.0}, "box"], noise=pk.Gaussian(0.1))
    assert type(several.solver).__name__ == "PDHG"
    assert type(pk.compose(operator, prior=Shrink(), noise=pk.Gaussian(0.1)).solver).__name__ == "HQS"


def test_several_priors_at_once_respect_the_constraint(operator, y):
    priors = [
        {"name": "tv", "weight": 0.1},
        {"name": "l1_wavelet", "weight": 0.1},
        {"name": "box", "low": 0.2, "high": 0.8},
    ]
    result = pk.compose(operator, priors, {"name": "pdhg", "n_steps": 300}, pk.Gaussian(0.05))(y)
    assert float(result.x.min()) > 0.2 - 1e-2 and float(result.x.max()) < 0.8 + 1e-2


def test_scale_auto_is_reported_and_undone(operator, y):
    reconstruct = pk.compose(operator, Shrink(), noise=pk.Gaussian(0.05))
    small = reconstruct(y)
    big = pk.compose(operator, Shrink(), noise=pk.Gaussian(50.0))(1000 * y)
    assert small.scale == 1.0 and big.scale != 1.0
    assert any("scale" in note for note in big.notes)
    # Not exactly equal: the factor puts the 99th percentile at the top of the range.
    assert (big.x / 1000 - small.x).norm() < 0.2 * small.x.norm()


def test_scale_none_and_a_number(operator, y):
    plain = pk.compose(operator, solver="cg", noise=pk.Gaussian(0.1), scale=None)(y)
    scaled = pk.compose(operator, solver="cg", noise=pk.Gaussian(0.1), scale=7.0)(y)
    assert torch.allclose(plain.x, scaled.x, atol=1e-5)
    with pytest.raises(SpecError, match="scale"):
        pk.compose(operator, solver="cg", noise=pk.Gaussian(0.1), scale=-1.0)


def test_warm_start_is_used(operator, y):
    solver = {"name": "gradient_descent", "n_steps": 1}
    reconstruct = pk.compose(operator, solver=solver, noise=pk.Gaussian(0.1))
    x0 = torch.full((3, 1, 8, 8), 5.0)
    missing_pixels = operator.mask.expand(3, 1, 8, 8) == 0
    assert torch.equal(reconstruct(y, x0=x0).x[missing_pixels], x0[missing_pixels])
    with pytest.raises(ShapeError, match="x0"):
        reconstruct(y, x0=torch.zeros(3, 1, 4, 4))


def test_the_callers_tensor_is_not_written(operator, y):
    before = y.clone()
    pk.compose(operator, noise=pk.Gaussian(0.05))(y)
    assert torch.equal(y, before)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({}, SpecError, "noise"),
        ({"noise": 0.1}, SpecError, "likelihood"),
        ({"noise": "gausian"}, Exception, "Did you mean 'gaussian'"),
        ({"noise": pk.Gaussian(0.1), "prior": "tvv"}, Exception, "Did you mean 'tv'"),
        ({"noise": pk.Gaussian(0.1), "solver": {"name": "fista", "max_itre": 3}}, SpecError, "max_itre"),
        (
            {"noise": pk.Gaussian(0.1), "solver": "red", "prior": {"name": "tv", "weight": 1.0}},
            CapabilityError,
            "denoise",
        ),
        (
            {"noise": pk.Gaussian(0.1), "solver": "cg", "prior": {"name": "tv", "weight": 1.0}},
            CapabilityError,
            "no prior",
        ),
        ({"noise": pk.Poisson(), "solver": "cg"}, CapabilityError, "likelihood"),
        ({"noise": pk.Gaussian(0.1), "prior": [Shrink()]}, SpecError, "proximable"),
    ],
)
def test_bad_arguments_are_refused_at_compose_time(operator, arguments, error, says):
    with pytest.raises(error, match=says):
        pk.compose(operator, **arguments)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda y: y.double(), ShapeError, "float64"),
        (lambda y: y[:, :, :4], ShapeError, "shape"),
        (lambda y: y.tolist(), DataError, "list"),
        (lambda y: y * float("nan"), DataError, "NaN"),
        (lambda y: y.numpy() * 1j, ShapeError, "complex"),
    ],
)
def test_bad_measurements_are_refused(operator, y, change, error, says):
    with pytest.raises(error, match=says):
        pk.compose(operator, solver="cg", noise=pk.Gaussian(0.1))(change(y))


def test_result_of_a_composition_saves_loads_and_rebuilds(operator, y, tmp_path):
    result = pk.compose(operator, {"name": "tv", "weight": 2.0}, {"name": "pdhg", "n_steps": 5}, pk.Gaussian(0.1))(
        y, seed=3
    )
    result.save(tmp_path / "r.safetensors")
    loaded = pk.Result.load(tmp_path / "r.safetensors")
    assert torch.equal(loaded.x, result.x) and loaded.seed == 3 and loaded.calls == result.calls
    again = pk.compose(*(loaded.rebuild(k) for k in ("operator", "prior", "solver", "likelihood")))(y, seed=3)
    assert torch.equal(again.x, result.x)


@pytest.mark.parametrize("prior", ["digits", {"name": "digits", "arithmetic": "float32"}])
def test_shipped_weights_are_priors_by_name(prior):
    blur = pk.operators.Blur(kernel=pk.make("gaussian_kernel", size=3, std=0.7), shape=(1, 28, 28))
    reconstruct = pk.compose(blur, prior=prior, solver={"name": "hqs", "n_steps": 2}, noise=pk.Gaussian(0.05))
    x = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    result = reconstruct(blur(x))
    assert result.x.shape == x.shape and result.parts["prior"].weights == "digits"
