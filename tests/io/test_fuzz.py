"""Mutated files: every one is read or refused by one line, in bounded time and memory; none crashes the process."""

import os
import subprocess
import sys
import time
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
SILENCE = 50.0  # seconds: longer than the probe of an HDF5 file waits, twice
HDF5 = ("h5", "mat73", "fastmri")


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


def worked(name: str, path: Path, first: int, count: int, trust: bool) -> tuple[list[str], int | None]:
    """Lines of the worker, and its exit code; None: it was silent for so long that it was killed."""
    command = [sys.executable, str(Path(__file__).with_name("fuzz.py")), name, str(path), str(first), str(count)]
    environment = os.environ | {"PNPKIT_TRUST_HDF5": "1" if trust else "0"}
    said = path.with_name("said.txt")
    with said.open("wb") as out, path.with_name("errors.txt").open("wb") as errors:
        process = subprocess.Popen(command, stdout=out, stderr=errors, env=environment)
        size, silent = 0, time.monotonic()
        while process.poll() is None and time.monotonic() - silent < SILENCE:
            time.sleep(0.05)
            if said.stat().st_size > size:
                size, silent = said.stat().st_size, time.monotonic()
        hangs = process.poll() is None
        process.kill()
        code = process.wait()
    return said.read_text(errors="replace").splitlines(), None if hangs else code


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.timeout(6000 if FULL else 300)
def test_mutated_files(name, tmp_path):
    """Where the HDF5 library itself hangs or crashes, the process that tries a file first must have refused it."""
    path = valid(name, tmp_path)
    first, survived = 0, []
    while first < COUNT:
        lines, code = worked(name, path, first, min(A_PROCESS, COUNT - first), trust=True)
        wrong = [line for line in lines if line.startswith("WRONG")]
        assert not wrong, f"{name}: {len(wrong)} files; " + " | ".join(wrong[:4])
        first = 1 + max(int(line) for line in lines if line.isdecimal())
        if code == 0 and lines[-1] == "done":
            continue
        errors = path.with_name("errors.txt").read_text(errors="replace")[-500:]
        assert name in HDF5, f"{name}: mutation {first - 1} {'hangs' if code is None else f'ends in {code}'}: {errors}"
        lines, code = worked(name, path, first - 1, 1, trust=False)
        assert (code, lines[-1]) == (0, "done"), f"{name}: mutation {first - 1} gets past the probe: {lines}"
        survived.append(first - 1)
    print(f"{name}: {COUNT} files; the HDF5 library hung or crashed on {survived}")
