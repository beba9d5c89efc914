"""pnpkit-infer, `pnpkit native` and the C++ tests, as a user runs them."""

import json
import subprocess

import numpy as np
import pytest
import torch

from pnpkit import native
from pnpkit.errors import CapabilityError
from pnpkit.priors.unfolding.trained import DiffUnfolding
from pnpkit.solvers.base import solve
from pnpkit.solvers.posterior_sampler import PosteriorSampler

from .problems import needs_native, photo_problem

pytestmark = needs_native


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
    export(str(folder / "c.yaml"), folder / "p")
    problem = photo_problem()
    np.save(folder / "p" / "y.npy", problem.y.numpy())
    return folder / "p", problem


def infer(config, input, out, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the program; a later option takes the place of an earlier one."""
    words = ["--config", config, "--input", input, "--out", out, *options]
    return subprocess.run([native.program(), *map(str, words)], capture_output=True, text=True, timeout=120)


def test_program_gives_pythons_image(package, tmp_path):
    folder, problem = package
    done = infer(folder / "config.json", folder / "y.npy", tmp_path / "x.npy", "--threads", "1")
    assert done.returncode == 0 and "step 2/2" in done.stderr and done.stdout == "", done.stderr
    wanted = solve(problem, DiffUnfolding(weights="unfold_photos"), PosteriorSampler(n_steps=2), seed=7).x
    assert np.abs(np.load(tmp_path / "x.npy") - wanted.numpy()).max() < 1e-4
    about = json.loads((folder / "package.json").read_text())
    assert set(about["sha256"]) == {about["network"]["file"]} == {"unfold_photos.safetensors"}


def test_program_draws_samples_and_reads_folders(package, tmp_path):
    folder, problem = package
    options = ["--samples", "3", "--steps", "2", "--quiet"]
    one = infer(folder / "config.json", folder / "y.npy", tmp_path / "s.npy", *options)
    assert one.returncode == 0 and np.load(tmp_path / "s.npy").shape == (2, 3, 1, 40, 52)
    wanted = solve(problem[:1], DiffUnfolding(weights="unfold_photos"), PosteriorSampler(n_steps=2), seed=7, chains=3)
    assert wanted.samples is not None
    assert np.abs(np.load(tmp_path / "s.npy")[0] - wanted.samples[:, 0].numpy()).max() < 1e-4
    for place in ("in", "out"):
        (tmp_path / place).mkdir()
    for i in range(2):
        np.save(tmp_path / "in" / f"{i}.npy", problem.y[i].numpy())
    many = infer(folder / "config.json", tmp_path / "in", tmp_path / "out", "--benchmark", "2", "--quiet")
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
        (["--prior", "{config}"], 2, "truncated, or not a .safetensors file"),
        (["--device", "cuda"], 3, "no CUDA here"),
        (["--out", "/nowhere/x.npy"], 2, "folder /nowhere does not exist"),
        (["--out", "x.png"], 2, "written as .npy"),
    ],
)
def test_program_explains_bad_input_in_one_line(package, tmp_path, arguments, code, says):
    folder, _ = package
    if arguments == ["--device", "cuda"] and torch.cuda.is_available():
        pytest.skip("there is CUDA here")
    words = [w.format(config=folder / "config.json") for w in arguments]
    done = infer(folder / "config.json", folder / "y.npy", tmp_path / "x.npy", "--quiet", *words)
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
    done = infer(folder / "bad.json", folder / "y.npy", tmp_path / "x.npy", "--quiet")
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
    with pytest.raises(CapabilityError, match="tv is neither"):
        export(str(tmp_path / "c.yaml"), tmp_path / "p")


def test_ctest():
    """Exact values, adjoints, own convolutions against ATen's, 100,000 damaged files."""
    ctest = native.tool("ctest")
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
    files = ["--config", folder / "config.json", "--input", folder / "y.npy", "--out", tmp_path / "x.npy"]
    command = [built / "pnpkit-infer", *files]
    for words in (
        command,
        [*command, "--dtype", "bf16"],
        [*command, "--engine", "aten"],
        [built / "core_test"],
        [built / "fuzz", "5000"],
    ):
        done = subprocess.run(words, capture_output=True, text=True, timeout=1000, env=environment)
        assert done.returncode == 0, done.stderr[-3000:]
