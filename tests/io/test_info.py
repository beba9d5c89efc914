"""``pnpkit info``: what it says of every format."""

import numpy as np
import pytest
from typer.testing import CliRunner

from pnpkit.cli import app
from pnpkit.errors import DataError
from pnpkit.io import info, write_image, write_npy

from .test_volumes import fastmri, save, stack


def said(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["info", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_arrays_with_range_and_the_config_line(tmp_path):
    write_npy(tmp_path / "a.npy", np.array([[1.0, np.nan], [-3.0, 2.0]]))
    text = said(str(tmp_path / "a.npy"))
    assert "(2, 2)" in text and "float64" in text and "-3 to 2, mean 0, 1 not finite" in text
    assert f'{{"file": "{tmp_path / "a.npy"}"}}' in text.replace("\n", "")
    np.savez(tmp_path / "b.npz", x=np.ones((2, 3)), y=np.full(4, 1 + 1j))
    assert info(tmp_path / "b.npz").entries == {"x": ((2, 3), "float64"), "y": ((4,), "complex128")}
    assert "--key" in said(str(tmp_path / "b.npz"))
    assert "magnitudes 1.41421 to 1.41421" in said(str(tmp_path / "b.npz"), "--key", "y")


def test_containers_list_their_arrays(tmp_path):
    import torch
    from safetensors.torch import save_file
    from scipy.io import savemat

    save_file({"w": torch.zeros(2, 5)}, str(tmp_path / "a.safetensors"))
    assert info(tmp_path / "a.safetensors").entries["w"][0] == (2, 5)
    savemat(tmp_path / "a.mat", {"k": np.zeros((3, 2)), "cells": np.array([np.ones(2), np.ones(3)], dtype=object)})
    assert info(tmp_path / "a.mat").entries == {"k": ((3, 2), "double"), "cells": ((1, 2), "cell")}
    told = info(fastmri(tmp_path / "a.h5"))
    assert told.format == "fastMRI (HDF5)" and told.entries["kspace"] == ((3, 2, 8, 6), "complex64")
    assert told.facts["acquisition"] == "AXT2"


def test_measured_files(data_dir):
    assert info(data_dir / "kernels" / "Levin09.mat").entries == {"kernels": ((1, 8), "cell")}
    assert "cell" in said(str(data_dir / "kernels" / "Levin09.mat"))
    assert info(data_dir / "mri" / "espirit_full.cfl").entries[""][0] == (8, 230, 180)


def test_volumes_tell_size_orientation_and_unit(tmp_path):
    told = info(save(tmp_path / "a.nii.gz", np.zeros((4, 3, 2), dtype=np.uint8))).facts
    assert told["voxel size"].startswith("4 × 3 × 2 mm") and told["orientation"] == "SAR along D, H, W"
    told = info(stack(tmp_path / "series"))
    assert told.format == "DICOM series" and told.facts["unit"] == "HU" and told.facts["slices"] == "4"
    text = said(str(tmp_path / "series" / "1.dcm"))
    assert "(1, 3, 5)" in text and "SPL along D, H, W" in text


def test_a_plugins_reader(tmp_path, monkeypatch):
    from pnpkit import registry

    names, get = registry.names, registry.get
    monkeypatch.setattr(registry, "names", lambda kind: [*names(kind), "raw"] if kind == "readers" else names(kind))
    reader = lambda path, key: np.fromfile(path, dtype=np.float32)  # noqa: E731
    monkeypatch.setattr(registry, "get", lambda kind, name: reader if name == "raw" else get(kind, name))
    np.arange(6, dtype=np.float32).tofile(tmp_path / "a.raw")
    assert info(tmp_path / "a.raw").entries == {"": ((6,), "float32")}


def test_images_and_what_is_not_known(tmp_path):
    write_image(tmp_path / "a.png", np.full((3, 4, 5), 0.2))
    assert "0.2 to 0.2" in said(str(tmp_path / "a.png"))
    (tmp_path / "a.xyz").touch()
    with pytest.raises(DataError, match=r"reads \.npy"):
        info(tmp_path / "a.xyz")
    with pytest.raises(DataError, match="does not exist"):
        info(tmp_path / "none.npy")
