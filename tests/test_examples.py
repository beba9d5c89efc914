"""The examples run, and what they show holds."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1] / "examples"


def load(name: str):
    spec = importlib.util.spec_from_file_location(f"examples_{name}", ROOT / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_radial_mri(data_dir, tmp_path, capsys):
    load("radial_mri").main(data_dir, tmp_path / "a.png")
    errors = dict(re.findall(r"(\S.*): NMSE ([\d.]+)", capsys.readouterr().out))
    first, sense, wavelet = (float(v) for v in errors.values())
    assert sense < 0.4 * first and wavelet < 0.4 * first
    assert (tmp_path / "a.png").is_file()


def test_limited_angle_ct(data_dir, tmp_path, capsys):
    example = load("limited_angle_ct")
    example.main([data_dir / "ct/htc2022/range30/tb_subsample_30.mat"], tmp_path / "a.png")
    residuals = [float(v) for v in re.findall(r"relative residual ([\d.]+)", capsys.readouterr().out)]
    assert residuals[0] > 0.3 and residuals[1] < 0.02  # 30° of back-projection explain little, the TV image the data


@pytest.mark.parametrize("file", ["range30/solid_disc_subsample73.mat", "range30/tb_subsample_30.mat"])
def test_the_geometry_of_the_scanner(file, data_dir):
    """The real sinograms, MATLAB 7.3 and 5: views half a degree apart; a solid disc is round under this geometry."""
    operator, y = load("limited_angle_ct").scan(data_dir / "ct/htc2022" / file)
    assert y.shape == (1, 1, 61, 560) and operator.out_shape == (1, 61, 560)
    assert torch.allclose(operator.angles.diff().rad2deg(), torch.tensor(0.5), atol=1e-3)
    assert operator.source_to_axis == pytest.approx(410.66) and operator.source_to_detector == pytest.approx(553.74)


def test_a_deepinv_user_s_migration():
    from skimage.data import camera

    photo = torch.from_numpy(camera()[100:196, 200:296].copy()).float()[None, None] / 255
    found = load("from_deepinv").main(photo)
    measured, ours, theirs, beside = found.values()
    assert ours > measured + 2 and theirs == pytest.approx(beside, abs=1e-4) and abs(ours - theirs) < 0.5


def test_posterior_mri(data_dir, tmp_path, capsys):
    """Few steps: everything runs, and even then the mean beats CG-SENSE behind the 2×2 mask."""
    load("posterior_mri").main(data_dir, tmp_path / "a.png", steps=6, chains=2)
    out = capsys.readouterr().out
    errors = re.findall(r"(CG-SENSE|posterior mean): NMSE ([\d.]+)", out)
    assert len(errors) == 6 and float(errors[1][1]) < float(errors[0][1])
    assert (tmp_path / "a.png").is_file()


def test_blind_deblurring(tmp_path):
    example = load("blind_deblurring")
    scores = example.main(example.cameraman(), tmp_path / "a.png", steps=5, chains=2)
    assert scores["kernel known"] > scores["blurred"] and (tmp_path / "a.png").is_file()
