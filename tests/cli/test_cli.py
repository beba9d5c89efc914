"""The command line, run as a user runs it (in process)."""

import json

import numpy as np
import pytest
import torch

CONFIG = """
operator: {name: inpainting, mask: {make: random_mask, shape: [1, 16, 16], fraction: 0.5, seed: 0}}
noise: {name: gaussian, sigma: 0.05}
prior: {name: tv, weight: 5.0}
solver: {name: pdhg, n_steps: 20}
seed: 3
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "c.yaml").write_text(CONFIG)
    x = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(0)).numpy()
    np.save(tmp_path / "x.npy", x)
    return tmp_path


def test_list_names_everything(pnpkit):
    code, out, _ = pnpkit("list")
    assert code == 0
    for name in ("blur", "mri", "tv", "hqs", "psnr", "motion_kernel"):
        assert name in out


def test_list_fits_gives_reasons(pnpkit):
    code, out, _ = pnpkit("list", "--fits", "--operator", "phase_retrieval")
    assert code == 0 and "✓" in out and "needs operator to provide linear" in out


def test_show_schema_is_json(pnpkit):
    code, out, _ = pnpkit("show", "blur", "--schema")
    assert code == 0 and "kernel" in json.loads(out)["properties"]
    code, out, _ = pnpkit("show", "hqs")
    assert code == 0 and "n_steps" in out and "needs" in out and "float > 0 or None" in out and "typing" not in out
    code, out, _ = pnpkit("show", "weights/digits")
    assert code == 0 and "MNIST" in out and "pnpkit train digits" in out


def test_solve_writes_the_image_and_a_loadable_result(pnpkit, folder):
    args = ["solve", str(folder / "c.yaml"), "-i", str(folder / "x.npy"), "--simulate", "-q"]
    code, out, _ = pnpkit(*args, "-o", str(folder / "r.safetensors"), "--picture", str(folder / "r.png"))
    assert code == 0 and "PSNR" in out and (folder / "r.png").stat().st_size > 0
    from pnpkit import Result

    result = Result.load(folder / "r.safetensors")
    assert result.x.shape == (1, 16, 16) and result.seed == 3 and result.steps == 20
    code, _, _ = pnpkit(*args, "-o", str(folder / "r.npy"))
    assert code == 0 and np.array_equal(np.load(folder / "r.npy"), result.x.numpy())


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (("inpainting", "inpaintin"), 2, "Did you mean 'inpainting'"),
        (("prior:", "priro:"), 2, "Did you mean 'prior'"),
        (("n_steps: 20", "n_step: 20"), 2, "Did you mean 'n_steps'"),
        (("sigma: 0.05", "sigma: 0"), 2, "sigma"),
        (("name: tv, weight: 5.0", "name: tv, weight: heavy"), 2, "weight"),
        (("name: pdhg", "name: red"), 3, "denoise"),
        (("[1, 16, 16]", "[1, 8, 8]"), 2, "holds (1, 16, 16)"),
        (("{make: random_mask, shape: [1, 16, 16], fraction: 0.5, seed: 0}", "{file: no.npy}"), 2, "does not exist"),
        (("seed: 3", "seed: [3"), 2, "not valid YAML"),
    ],
)
def test_bad_configs_say_what_and_exit_2_or_3(pnpkit, folder, change, code, says):
    (folder / "c.yaml").write_text(CONFIG.replace(*change))
    got, _, err = pnpkit(
        "solve", str(folder / "c.yaml"), "-i", str(folder / "x.npy"), "--simulate", "-o", str(folder / "r.npy")
    )
    assert got == code and says in err and "Traceback" not in err
    assert not (folder / "r.npy").exists()


def test_truncated_and_missing_files(pnpkit, folder):
    for name, content in (("cut.npy", (folder / "x.npy").read_bytes()[:150]), ("gone.npy", None)):
        if content is not None:
            (folder / name).write_bytes(content)
        code, _, err = pnpkit("solve", str(folder / "c.yaml"), "-i", str(folder / name), "-o", str(folder / "r.npy"))
        assert code == 2 and name in err


def test_divergence_has_its_own_code(pnpkit, folder):
    config = CONFIG.replace("name: pdhg, n_steps: 20", "name: pgd, n_steps: 4000, relative_step: 50.0")
    (folder / "c.yaml").write_text(config.replace("name: tv, weight: 5.0", "name: tikhonov, weight: 1e-6"))
    code, _, err = pnpkit(
        "solve", str(folder / "c.yaml"), "-i", str(folder / "x.npy"), "-o", str(folder / "r.npy"), "-q"
    )
    assert code == 4 and "diverged at step" in err


def test_check_one_component(pnpkit):
    code, out, _ = pnpkit("check", "inpainting")
    assert code == 0 and "operators/inpainting" in out
    code, _, err = pnpkit("check", "inpaintin")
    assert code == 2 and "Did you mean" in err
