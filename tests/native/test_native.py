"""The C++ backend against its Python twins, and pnpkit-infer as a user runs it."""

import copy
import json
import pickle
import subprocess
import threading

import numpy as np
import pytest
import torch

from pnpkit import native, registry
from pnpkit.errors import CapabilityError, SpecError
from pnpkit.likelihoods import Gaussian, randn_like
from pnpkit.operators import CT, MRI, Blur, Compose, Inpainting, SuperResolution
from pnpkit.operators.makers.coils import random_coil_maps
from pnpkit.operators.makers.kernels import gaussian_kernel
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

BUILT = native.absent()
pytestmark = pytest.mark.skipif(BUILT is not None, reason=f"no native backend: {BUILT}")


def draw(*shape: int, seed: int = 0, complex: bool = False) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=rng, dtype=torch.complex64 if complex else torch.float32)


def kernel(seed: int = 0, *lead: int, h: int = 5, w: int = 6) -> torch.Tensor:
    return torch.rand(*lead, 1, h, w, generator=torch.Generator().manual_seed(seed)) / (h * w)


def mask(*shape: int, keep: float = 0.5, seed: int = 1) -> torch.Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < keep).float()


def lines(h: int, w: int, axis: int) -> torch.Tensor:
    one = mask(h if axis == -2 else w, keep=0.6)
    one[len(one) // 2] = 1
    return (one[:, None] if axis == -2 else one[None]).expand(1, h, w).clone()


OPERATORS = {
    "inpainting": lambda: Inpainting(mask=mask(1, 13, 16)),
    "inpainting, colour, weights": lambda: Inpainting(mask=mask(3, 13, 16) * 0.7, shape=(3, 13, 16)),
    "inpainting, complex": lambda: Inpainting(mask=mask(1, 13, 16), complex=True),
    "inpainting, per sample": lambda: Inpainting(mask=mask(2, 1, 13, 16)),
    "blur": lambda: Blur(kernel=kernel(), shape=(1, 13, 16)),
    "blur, odd": lambda: Blur(kernel=kernel(h=4, w=5), shape=(2, 13, 15)),
    "blur, complex": lambda: Blur(kernel=kernel(), shape=(1, 13, 16), complex=True),
    "blur, per sample": lambda: Blur(kernel=kernel(3, 2), shape=(1, 13, 16)),
    "super-resolution ×2": lambda: SuperResolution(kernel=kernel(), factor=2, shape=(1, 12, 16)),
    "super-resolution ×3": lambda: SuperResolution(kernel=kernel(), factor=3, shape=(2, 12, 15)),
    "super-resolution ×4, large kernel": lambda: SuperResolution(
        kernel=kernel(h=12, w=12), factor=4, shape=(1, 24, 20)
    ),
    "super-resolution, complex": lambda: SuperResolution(kernel=kernel(), factor=2, shape=(1, 12, 16), complex=True),
    "super-resolution, per sample": lambda: SuperResolution(kernel=kernel(4, 2), factor=2, shape=(1, 12, 16)),
    "single-coil MRI": lambda: MRI(mask=mask(1, 12, 16)),
    "single-coil MRI, odd": lambda: MRI(mask=mask(1, 13, 15)),
    "CT, parallel": lambda: CT(angles=torch.linspace(0, 3.0, 9), shape=(1, 13, 16), detectors=21, pitch=0.9),
    "CT, fan, colour": lambda: CT(
        angles=torch.linspace(0.1, 6.0, 11),
        shape=(2, 12, 15),
        detectors=23,
        offset=torch.tensor([0.3]),
        pixel=0.8,
        source_to_axis=20.0,
        source_to_detector=31.0,
    ),
    "CT, per sample": lambda: CT(
        angles=torch.rand(2, 8, generator=torch.Generator().manual_seed(0)) * 3, shape=(1, 9, 9), detectors=13
    ),
    "multi-coil MRI": lambda: MRI(mask=mask(1, 12, 16), maps=draw(3, 12, 16, complex=True)),
    "multi-coil MRI, lines": lambda: MRI(mask=lines(12, 16, -2), maps=draw(3, 12, 16, complex=True)),
    "multi-coil MRI, columns": lambda: MRI(mask=lines(12, 16, -1), maps=draw(3, 12, 16, complex=True)),
    "multi-coil MRI, all": lambda: MRI(mask=torch.ones(1, 12, 16), maps=draw(3, 12, 16, complex=True)),
    "multi-coil MRI, per sample": lambda: MRI(mask=mask(2, 1, 12, 16), maps=draw(2, 3, 12, 16, complex=True)),
}


def problem_of(name: str, sigma: float | torch.Tensor = 0.1) -> Problem:
    op = OPERATORS[name]().with_cg(tol=1e-6, max_iter=300)
    y = draw(2, *op.out_shape, seed=5, complex=op.out_dtype.is_complex)
    return Problem(op, Gaussian(sigma=sigma), y)


def close(a: torch.Tensor, b: torch.Tensor, relative: float = 1e-5) -> None:
    assert a.dtype == b.dtype and a.shape == b.shape
    assert float((a - b).abs().max()) <= relative * float(b.abs().max()), (a - b).abs().max() / b.abs().max()


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_are_those_of_python(name):
    problem = problem_of(name, torch.tensor([0.1, 0.3]))
    op, other = problem.operator, twin(problem)
    x = draw(2, *op.in_shape, seed=6, complex=op.in_dtype.is_complex)
    tau = torch.tensor([0.3, 7.0])
    close(other.forward(x), op(x))
    close(other.adjoint(problem.y), op.adjoint(problem.y))
    close(other.normal(x), op.normal(x))
    close(other.prox_l2(x, tau), op.prox_l2(x, problem.y, tau))
    close(other.initial(), problem.initial())
    close(
        other.lipschitz, problem.lipschitz, 1e-3 if "coil" in name or "CT" in name else 1e-5
    )  # a bound within 1 %, or power iteration
    close(other.noise_level, problem.noise_level, 1e-3)


def photo_problem(name: str = "blur", batch: int = 2, size: tuple[int, int] = (40, 52)) -> Problem:
    shape = (1, *size)
    op = {
        "blur": lambda: Blur(kernel=gaussian_kernel(size=9, std=1.5), shape=shape),
        "inpainting": lambda: Inpainting(mask=mask(1, *size), shape=shape),
        "super_resolution": lambda: SuperResolution(kernel=gaussian_kernel(size=9, std=1.5), factor=2, shape=shape),
    }[name]()
    grid = torch.linspace(0, 3, size[1]).sin() * torch.linspace(0, 2, size[0]).cos()[:, None] * 0.4 + 0.5
    likelihood = Gaussian(sigma=0.03)
    y = likelihood.sample(op(grid.expand(batch, *shape).contiguous()), torch.Generator().manual_seed(2))
    return Problem(op, likelihood, y)


def mri_problem() -> Problem:
    op = MRI(mask=lines(40, 36, -1), maps=random_coil_maps((4, 40, 36), seed=0))
    x = draw(1, 1, 40, 36, complex=True) * 0.1 + 0.5
    likelihood = Gaussian(sigma=0.01)
    return Problem(op, likelihood, likelihood.sample(op(x), torch.Generator().manual_seed(2)))


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
    close(fast(x, 0.2), plain(x, 0.2), 1e-4)


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
    close(fast(x, sigma), plain(x, sigma), 1e-4)


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
    close(own.denoise(x, sigma), aten.denoise(x, sigma), 1e-4)
    assert aten.engine == "aten float32"


def test_operators_without_a_twin_keep_pythons_data_steps():
    op = Compose(operators=(Inpainting(mask=mask(1, 24, 24)), Blur(kernel=kernel(), shape=(1, 24, 24))))
    problem = Problem(op, Gaussian(sigma=0.1), draw(1, 1, 24, 24))
    assert twin(problem) is None
    plain, fast = (DiffUnfolding(weights="unfold_photos", backend=b).given(problem) for b in ("python", "native"))
    close(fast(problem.y, 0.5), plain(problem.y, 0.5), 1e-4)


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


# --- what it cannot do ---


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
            close(fast(x, torch.tensor([0.02, 0.3, 1.0])), plain(x, torch.tensor([0.02, 0.3, 1.0])), 1e-4)


# --- pnpkit-infer ---


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """(folder that `pnpkit native export` made, the problem)."""
    from pnpkit.native_package import export

    folder = tmp_path_factory.mktemp("package")
    config = {
        "operator": {
            "name": "blur",
            "kernel": {"make": "gaussian_kernel", "size": 9, "std": 1.5},
            "shape": [1, 40, 52],
        },
        "noise": {"name": "gaussian", "sigma": 0.03},
        "prior": {"name": "diff_unfolding", "weights": "unfold_photos"},
        "solver": {"name": "posterior_sampler", "n_steps": 2},
        "seed": 7,
    }
    (folder / "c.yaml").write_text(json.dumps(config))
    export(folder / "c.yaml", folder / "p")
    problem = photo_problem()
    np.save(folder / "p" / "y.npy", problem.y.numpy())
    return folder / "p", problem


def infer(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([native.program(), *map(str, arguments)], capture_output=True, text=True, timeout=120)


def test_program_gives_pythons_image(package, tmp_path):
    folder, problem = package
    done = infer(
        "--config", folder / "config.json", "--input", folder / "y.npy", "--out", tmp_path / "x.npy", "--threads", 1
    )
    assert done.returncode == 0 and "step 2/2" in done.stderr and done.stdout == "", done.stderr
    wanted = solve(problem, DiffUnfolding(weights="unfold_photos"), PosteriorSampler(n_steps=2), seed=7).x
    assert np.abs(np.load(tmp_path / "x.npy") - wanted.numpy()).max() < 1e-4
    about = json.loads((folder / "package.json").read_text())
    assert set(about["sha256"]) == {"config.json", "operator_kernel.npy", "unfold_photos.safetensors"}


def test_program_draws_samples_and_reads_folders(package, tmp_path):
    folder, problem = package
    one = infer(
        "--config",
        folder / "config.json",
        "--input",
        folder / "y.npy",
        "--out",
        tmp_path / "s.npy",
        "--samples",
        3,
        "--steps",
        2,
        "--quiet",
    )
    assert one.returncode == 0 and np.load(tmp_path / "s.npy").shape == (2, 3, 1, 40, 52)
    wanted = solve(problem[:1], DiffUnfolding(weights="unfold_photos"), PosteriorSampler(n_steps=2), seed=7, chains=3)
    assert wanted.samples is not None
    assert np.abs(np.load(tmp_path / "s.npy")[0] - wanted.samples[:, 0].numpy()).max() < 1e-4
    for place in ("in", "out"):
        (tmp_path / place).mkdir()
    for i in range(2):
        np.save(tmp_path / "in" / f"{i}.npy", problem.y[i].numpy())
    many = infer(
        "--config",
        folder / "config.json",
        "--input",
        tmp_path / "in",
        "--out",
        tmp_path / "out",
        "--benchmark",
        2,
        "--quiet",
    )
    assert many.returncode == 0 and set(json.loads(many.stdout)) == {"first_s", "median_s", "runs", "peak_mib"}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0.npy", "1.npy"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--steps", "0"], 2, "--steps must be an integer"),
        (["--steps", "1e3"], 2, "--steps must be an integer"),
        (["--wat", "1"], 2, "unknown option"),
        (["--dtype", "int8"], 2, "expected one of fp32, bf16"),
        (["--input", "nowhere.npy"], 2, "is not a file"),
        (["--weights", "{config}"], 2, "truncated, or not a .safetensors file"),
        (["--device", "cuda"], 3, "no CUDA here"),
        (["--out", "/nowhere/x.npy"], 2, "folder /nowhere does not exist"),
        (["--out", "x.png"], 2, "written as .npy"),
    ],
)
def test_program_explains_bad_input_in_one_line(package, tmp_path, arguments, code, says):
    folder, _ = package
    if arguments == ["--device", "cuda"] and torch.cuda.is_available():
        pytest.skip("there is CUDA here")
    options = {"--config": folder / "config.json", "--input": folder / "y.npy", "--out": tmp_path / "x.npy"}
    options |= {arguments[0]: arguments[1].format(config=folder / "config.json")}
    done = infer("--quiet", *(word for pair in options.items() for word in pair))
    assert done.returncode == code and says in done.stderr and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"operator": {"name": "blurr"}}, "has no twin"),
        (
            {"operator": {"name": "blur", "kernel": {"file": "y.npy"}, "shape": [1, 40, 52], "size": 3}},
            "unknown parameter 'size'",
        ),
        ({"operator": {"name": "blur", "kernel": {"make": "gaussian_kernel"}, "shape": [1, 40, 52]}}, "needs Python"),
        (
            {"operator": {"name": "blur", "kernel": {"file": "operator_kernel.npy"}, "shape": [1, 4, 52]}},
            "larger than the image",
        ),
        (
            {"operator": {"name": "blur", "kernel": {"file": "operator_kernel.npy"}, "shape": [1, 48, 52]}},
            "the operator gives",
        ),
        ({"noise": {"name": "gaussian", "sigma": 0}}, "> 0 everywhere"),
        ({"noise": {"name": "poisson"}}, "Gaussian noise only"),
        ({"solver": {"name": "hqs"}}, "these are the other kind"),
        ({"solver": {"name": "posterior_sampler", "n_steps": 1.5}}, "must be an integer"),
        ({"extra": 1}, "unknown parameter 'extra'"),
    ],
)
def test_program_explains_bad_configs(package, tmp_path, change, says):
    folder, _ = package
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "bad.json").write_text(json.dumps(config))
    done = infer("--config", folder / "bad.json", "--input", folder / "y.npy", "--out", tmp_path / "x.npy", "--quiet")
    assert done.returncode in (2, 3) and says in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_command_line(pnpkit, package, tmp_path, monkeypatch):
    folder, _ = package
    assert pnpkit("native", "status")[:2] == (0, f"built: {native.folder()}\n")
    assert "already built" in pnpkit("native", "build")[1]
    code, out, _ = pnpkit("native", "export", str(folder.parent / "c.yaml"), str(tmp_path / "p"))
    names = {"config.json", "package.json", "operator_kernel.npy", "unfold_photos.safetensors"}
    assert code == 0 and {p.name for p in (tmp_path / "p").iterdir()} == names and all(n in out for n in names)
    monkeypatch.setenv("PNPKIT_NATIVE", str(tmp_path))
    native.load.cache_clear()
    code, out, _ = pnpkit("native", "status")
    assert code == 0 and "Run `pnpkit native build`" in out
    native.load.cache_clear()


def test_export_refuses_what_the_program_cannot_run(tmp_path):
    from pnpkit.native_package import export

    config = {
        "operator": {
            "name": "blur",
            "kernel": {"make": "gaussian_kernel", "size": 5, "std": 1.0},
            "shape": [1, 40, 52],
        },
        "prior": {"name": "tv"},
    }
    (tmp_path / "c.yaml").write_text(json.dumps(config | {"noise": {"name": "gaussian", "sigma": 0.1}}))
    with pytest.raises(CapabilityError, match="not tv"):
        export(tmp_path / "c.yaml", tmp_path / "p")


# --- C++'s own tests ---


def test_ctest():
    """Exact values, adjoints, own convolutions against ATen's, 100,000 damaged files."""
    ctest = native._tool("ctest")
    done = subprocess.run(
        [ctest, "--output-on-failure", "--test-dir", native.folder()], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0 and "100% tests passed" in done.stdout, done.stdout + done.stderr


def test_the_program_of_the_readme(package, tmp_path):
    folder, problem = package
    root = native.sources()
    if (root / "README.md").is_file():
        code = (root / "tests" / "readme_program.cpp").read_text().split("\n", 1)[1]
        assert code in (root / "README.md").read_text() and len(code.splitlines()) <= 36
    np.save(tmp_path / "y.npy", problem.y[0].numpy())
    files = [folder / "unfold_photos.safetensors", tmp_path / "y.npy", tmp_path / "x.npy"]
    done = subprocess.run([native.program("readme_program"), *files], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and done.stdout.startswith("range "), done.stderr
    assert np.load(tmp_path / "x.npy").shape == (1, 40, 52)


@pytest.mark.full
def test_sanitizers_find_nothing(package, tmp_path):
    folder, _ = package
    built = native.build(sanitize=True)
    # libtorch itself keeps memory until the end: leaks are not looked for
    environment = {"ASAN_OPTIONS": "detect_leaks=0", "OMP_NUM_THREADS": "2"}
    command = [
        built / "pnpkit-infer",
        "--config",
        folder / "config.json",
        "--input",
        folder / "y.npy",
        "--out",
        tmp_path / "x.npy",
    ]
    for words in (
        command,
        [*command, "--dtype", "bf16"],
        [*command, "--engine", "aten"],
        [built / "core_test"],
        [built / "fuzz", "5000"],
    ):
        done = subprocess.run(words, capture_output=True, text=True, timeout=1000, env=environment)
        assert done.returncode == 0, done.stderr[-3000:]


def test_weights_of_another_form_are_refused(tmp_path):
    with pytest.raises(SpecError, match=r"not a \.safetensors"):
        (tmp_path / "w.safetensors").write_bytes(b"12")
        native.load().Network(str(tmp_path / "w.safetensors"))
