"""Mutated files: every one is read or refused by one line, in bounded time and memory; none crashes the process."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pnpkit.io import write_image, write_npy

from .test_arrays import write_cfl
from .test_volumes import fastmri, save, write_slice

NAMES = ["npy", "npz", "safetensors", "mat", "mat73", "h5", "fastmri", "cfl", "nii", "nii.gz", "dcm"]
NAMES += ["png", "jpg", "bmp", "tif"]
FULL = bool(os.environ.get("PNPKIT_FULL"))
COUNT = 20_000 if FULL else 200
A_PROCESS = 2_500  # files


def valid(name: str, folder: Path) -> Path:
    """A small file of the format."""
    rng = np.random.default_rng(0)
    array = rng.standard_normal((6, 5))
    path = folder / f"a.{ {'mat73': 'mat', 'fastmri': 'h5'}.get(name, name) }"
    if name == "npy":
        write_npy(path, array)
    elif name == "npz":
        np.savez_compressed(path, a=array, b=array[:2])
    elif name == "safetensors":
        import torch
        from safetensors.torch import save_file

        save_file({"a": torch.from_numpy(array)}, str(path))
    elif name == "mat":
        from scipy.io import savemat

        savemat(path, {"a": array, "s": {"f": array}}, do_compression=True)
    elif name in ("h5", "mat73"):
        import h5py

        with h5py.File(path, "w", userblock_size=512 if name == "mat73" else 0) as file:
            file.create_dataset("a", data=array, chunks=(2, 5), compression="gzip")
            file["g/b"] = array[:2]
    elif name == "fastmri":
        fastmri(path)
    elif name == "cfl":
        write_cfl(folder, (2, 3, 1, 4), np.arange(24))
    elif name in ("nii", "nii.gz"):
        save(path, array.astype(np.float32).reshape(5, 3, 2))
    elif name == "dcm":
        write_slice(path, np.arange(15).reshape(3, 5), (1, 2, 3))
    else:
        write_image(path, rng.random((3, 6, 5)))
    return path


def last_number(text: str) -> str:
    numbers = [line for line in text.splitlines() if line.isdecimal()]
    return numbers[-1] if numbers else "none"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.timeout(3000 if FULL else 300)
def test_mutated_files(name, tmp_path):
    path = valid(name, tmp_path)
    for first in range(0, COUNT, A_PROCESS):
        count = min(A_PROCESS, COUNT - first)
        command = [sys.executable, str(Path(__file__).with_name("fuzz.py")), name, str(path), str(first), str(count)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60 + 0.2 * count)
        except subprocess.TimeoutExpired as hang:
            said = hang.stdout.decode() if isinstance(hang.stdout, bytes) else str(hang.stdout)
            pytest.fail(f"{name}: mutation {last_number(said)} hangs")
        wrong = [line for line in done.stdout.splitlines() if line.startswith("WRONG")]
        assert not wrong, f"{name}: {len(wrong)} of {count}; " + " | ".join(wrong[:4])
        crashed = f"mutation {last_number(done.stdout)} ends the process ({done.returncode}): {done.stderr[-500:]}"
        assert done.stdout.endswith("done\n"), f"{name}: {crashed}"
