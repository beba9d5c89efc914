"""Priors and loops in C++ against Python, and what the backend cannot do."""

import copy
import json
import pickle
import threading

import pytest
import torch

from pnpkit import native, registry
from pnpkit.errors import CapabilityError, SpecError
from pnpkit.likelihoods import Gaussian, randn_like
from pnpkit.operators import Blur, Compose, Inpainting
from pnpkit.priors.native_problem import twin
from pnpkit.priors.networks.unet import UNet
from pnpkit.priors.unet import FORMAT, UNetDenoiser
from pnpkit.priors.unfolding.trained import DiffUnfolding
from pnpkit.problem import Problem
from pnpkit.solvers.admm import ADMM
from pnpkit.solvers.base import solve
from pnpkit.solvers.hqs import HQS
from pnpkit.solvers.posterior_sampler import PosteriorSampler
from pnpkit.training.run import save_weights

from .problems import assert_near, draw, kernel, mask, mri_problem, needs_native, photo_problem

pytestmark = needs_native


@pytest.mark.parametrize("name", ["blur", "inpainting", "super_resolution"])
@pytest.mark.parametrize(
    "solver",
    [PosteriorSampler(n_steps=1), PosteriorSampler(n_steps=4, eta=0.5), PosteriorSampler(n_steps=3, method="heun")],
)
def test_whole_sampler_is_pythons_to_the_fourth_digit(name, solver):
    problem = photo_problem(name)
    plain, fast = (
        solve(problem, DiffUnfolding(weights="unfold_photos", backend=b), solver, seed=3) for b in ("python", "native")
    )
    assert float((plain.x - fast.x).abs().max()) < 1e-4
    assert plain.calls == fast.calls | {"forward": plain.calls["forward"], "adjoint": plain.calls["adjoint"]}


def test_complex_images_and_sides_that_are_no_multiples():
    problem = mri_problem()
    plain, fast = (DiffUnfolding(weights="unfold_mri", backend=b).given(problem) for b in ("python", "native"))
    x = problem.initial() + 0.2 * randn_like(problem.initial(), torch.Generator().manual_seed(1))
    assert_near(fast(x, 0.2), plain(x, 0.2), 1e-4)


def test_c_plus_plus_loops_draw_pythons_random_numbers():
    network = native.load().Network(str(registry.card("unfold_photos")["file"]))
    problem = photo_problem()
    for options in ({"n_steps": 3, "eta": 1.0}, {"n_steps": 2, "method": "ddim"}, {"n_steps": 3, "method": "heun"}):
        plain = solve(problem, DiffUnfolding(weights="unfold_photos"), PosteriorSampler(**options), seed=11).x
        fast = native.load().solve(twin(problem), network, json.dumps({"name": "posterior_sampler"} | options), 11)
        assert float((plain - fast).abs().max()) < 1e-4
    denoiser = native.load().Network(str(registry.card("photos_gray")["file"]))
    for solver, spec in (
        (HQS(n_steps=4, inject=0.5), {"name": "hqs", "n_steps": 4, "inject": 0.5}),
        (ADMM(n_steps=4, sigma_start=0.2), {"name": "admm", "n_steps": 4, "sigma_start": 0.2}),
        (ADMM(n_steps=3), {"name": "admm", "n_steps": 3}),
    ):
        plain = solve(problem, UNetDenoiser(weights="photos_gray"), solver, seed=4).x
        assert float((plain - native.load().solve(twin(problem), denoiser, json.dumps(spec), 4)).abs().max()) < 1e-4


@pytest.mark.parametrize(("weights", "channels"), [("photos_gray", 1), ("photos", 3), ("brain_mri", 1)])
@pytest.mark.parametrize("sigma", [0.01, 0.2])
def test_denoisers(weights, channels, sigma):
    plain, fast = (UNetDenoiser(weights=weights, backend=b) for b in ("python", "native"))
    complex = plain.domain.dtype.is_complex
    x = draw(2, channels, 33, 50, complex=complex) * 0.3 + 0.5
    assert_near(fast(x, sigma), plain(x, sigma), 1e-4)


def test_bfloat16_is_near(rng):
    problem = photo_problem()
    exact, half = (
        DiffUnfolding(weights="unfold_photos", backend="native", arithmetic=a).given(problem)(problem.y, 1.0)
        for a in ("float32", "bfloat16")
    )
    error = float((exact - half).square().mean().sqrt())
    assert 0 < error < 0.003


def test_convolutions_of_aten_give_the_same():
    x, sigma = draw(1, 1, 24, 40) * 0.3 + 0.5, torch.tensor([0.1])
    path = str(registry.card("photos_gray")["file"])
    own, aten = (native.load().Network(path, fused=f) for f in (True, False))
    assert_near(own.denoise(x, sigma), aten.denoise(x, sigma), 1e-4)
    assert aten.engine == "aten float32"


def test_operators_without_a_twin_keep_pythons_data_steps():
    op = Compose(operators=(Inpainting(mask=mask(1, 24, 24)), Blur(kernel=kernel(), shape=(1, 24, 24))))
    problem = Problem(op, Gaussian(sigma=0.1), draw(1, 1, 24, 24))
    assert twin(problem) is None
    plain, fast = (DiffUnfolding(weights="unfold_photos", backend=b).given(problem) for b in ("python", "native"))
    assert_near(fast(problem.y, 0.5), plain(problem.y, 0.5), 1e-4)


def test_two_instances_in_many_threads():
    problem = photo_problem()
    a, b = (DiffUnfolding(weights="unfold_photos", backend="native").given(problem) for _ in range(2))
    wanted, found = a(problem.y, 0.5), []
    threads = [threading.Thread(target=lambda d=d: found.append(d(problem.y, 0.5))) for d in (a, b, a, b)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(found) == 4 and all(torch.equal(f, wanted) for f in found)


def test_priors_are_copied_and_pickled():
    prior = UNetDenoiser(weights="photos_gray", backend="native")
    x = draw(1, 1, 16, 16)
    for other in (copy.deepcopy(prior), pickle.loads(pickle.dumps(prior))):
        assert torch.equal(other(x, 0.1), prior(x, 0.1))


def test_gradients_and_float64_are_refused_or_left_to_python():
    x = draw(1, 1, 16, 16).requires_grad_()
    with pytest.raises(CapabilityError, match=r"no gradients.*auto"):
        UNetDenoiser(weights="photos_gray", backend="native")(x, 0.1)
    (slope,) = torch.autograd.grad(UNetDenoiser(weights="photos_gray", backend="auto")(x, 0.1).sum(), x)
    assert bool(torch.isfinite(slope).all())
    double = UNetDenoiser(weights="photos_gray", backend="native").to(torch.float64)
    with pytest.raises(CapabilityError, match="float32"):
        double(x.detach().double(), 0.1)


def test_absent_backend_says_how_to_build_it(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("PNPKIT_NATIVE", str(tmp_path))
    native.load.cache_clear()
    with pytest.raises(CapabilityError, match="pnpkit native build"):
        UNetDenoiser(weights="photos_gray", backend="native")
    with caplog.at_level("INFO", logger="pnpkit"):
        assert UNetDenoiser(weights="photos_gray", backend="auto")._native is None
    assert "runs in Python" in caplog.text
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(CapabilityError, match=r"no C\+\+ compiler.*cmake.*ninja"):
        native.build()
    native.load.cache_clear()


def test_networks_it_does_not_have(tmp_path):
    network = UNet(widths=(8, 16), blocks=1, attention=True)
    told = network.config | {"mean": 0.0, "std": 0.3, "complex": False, "sigma_range": [0.01, 1.0]}
    path = tmp_path / "w.safetensors"
    save_weights(path, FORMAT, told, network.state_dict())
    with pytest.raises(CapabilityError, match="attention or class labels"):
        UNetDenoiser(weights=str(path), backend="native")
    assert UNetDenoiser(weights=str(path), backend="auto")._native is None


def test_small_networks_of_any_shape(tmp_path):
    """One resolution, widths that are no multiple of a vector, images smaller than a tile."""
    for i, (channels, options) in enumerate(
        [(1, {"widths": (7,)}), (3, {"widths": (5, 20, 33)}), (2, {"widths": (16, 80), "middle": 3})]
    ):
        torch.manual_seed(i)
        network = UNet(channels=channels, blocks=1, **options)
        for p in network.parameters():
            torch.nn.init.normal_(p, std=0.1)
        told = network.config | {"mean": 0.1, "std": 0.3, "complex": False, "sigma_range": [0.01, 1.0]}
        path = tmp_path / f"{i}.safetensors"
        save_weights(path, FORMAT, told, network.state_dict())
        plain, fast = (UNetDenoiser(weights=str(path), backend=b) for b in ("python", "native"))
        for size in ((1, 1), (3, 9), (20, 31)):
            x = draw(3, channels, *size, seed=i)
            assert_near(fast(x, torch.tensor([0.02, 0.3, 1.0])), plain(x, torch.tensor([0.02, 0.3, 1.0])), 1e-4)


def test_weights_of_another_form_are_refused(tmp_path):
    with pytest.raises(SpecError, match=r"not a \.safetensors"):
        (tmp_path / "w.safetensors").write_bytes(b"12")
        native.load().Network(str(tmp_path / "w.safetensors"))
