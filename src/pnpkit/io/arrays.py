"""Arrays from NumPy, safetensors, MATLAB and HDF5 files: ``read(path, key)``.

``key`` names an array in a file that holds several, and goes inside with "/": "group/dataset",
"struct/field", "cells/3" (cells count from 0, in MATLAB's column order). Pickles are never loaded.
"""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pnpkit.errors import DataError
from pnpkit.io.files import choose, no_key, numeric, opened, walk


def read_npy(path: str | Path, key: str | None = None) -> np.ndarray:
    """The array of a .npy file; it has no keys."""
    no_key(path, key)
    with opened(path, "a .npy file", SyntaxError) as name, name.open("rb") as file:
        return numeric(name, np.lib.format.read_array(file, allow_pickle=False), None)


def write_npy(path: str | Path, value: np.ndarray | torch.Tensor) -> None:
    """Write a tensor or an array as .npy, in C order."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().resolve_conj().numpy()
    try:
        with Path(path).open("wb") as file:
            np.lib.format.write_array(file, np.ascontiguousarray(value), allow_pickle=False)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}.") from error


def read_npz(path: str | Path, key: str | None = None) -> np.ndarray:
    """One array of a .npz file; ``key`` may be left out when there is only one."""
    with opened(path, "a .npz file", zipfile.BadZipFile, zlib.error, KeyError) as file:
        if not zipfile.is_zipfile(file):
            raise DataError(f"{file} is not a .npz archive: it is truncated, or a .npy file under a wrong name.")
        with np.load(file, allow_pickle=False) as arrays:
            name = choose(file, arrays.files, key)
            return numeric(file, arrays[name], name)


def read_safetensors(path: str | Path, key: str | None = None) -> torch.Tensor:
    """One tensor of a safetensors file, in its own dtype; ``key`` may be left out when there is only one."""
    from safetensors import SafetensorError, safe_open

    with (
        opened(path, "a safetensors file", SafetensorError) as file,
        safe_open(str(file), framework="pt") as tensors,
    ):
        return tensors.get_tensor(choose(file, tensors.keys(), key))


# --- MATLAB ---


def read_mat(path: str | Path, key: str | None = None) -> np.ndarray:
    """One variable of a .mat file, version 5 or 7.3, in MATLAB's shape and axis order.

    key : "variable", and inside it cells by number and structs by field: "kernels/3", "data/kspace".
    """
    with opened(path, "a MATLAB file", KeyError) as file:
        return _read_mat73(file, key) if _is_hdf5(file) else _read_mat5(file, key)


def _is_hdf5(path: Path) -> bool:
    # A 7.3 file is HDF5 behind a 512-byte user block.
    with path.open("rb") as file:
        head = file.read(520)
    return b"\x89HDF\r\n\x1a\n" in (head[:8], head[512:])


def _read_mat5(path: Path, key: str | None) -> np.ndarray:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        variables = loadmat(path)
    except (MatReadError, TypeError, NotImplementedError, zlib.error, IndexError, KeyError) as error:
        raise ValueError(str(error)) from error
    name, *steps = (key or "").split("/")
    name = choose(path, (k for k in variables if not k.startswith("__")), name or None)
    value = walk(path, variables[name], name, steps, _enter_mat5)
    return numeric(path, value.toarray() if hasattr(value, "toarray") else value, key or name)


def _enter_mat5(value: Any, step: str) -> Any:
    """A field of a struct, or an entry of a cell or struct array."""
    names = value.dtype.names or ()
    if step in names and value.size == 1:
        return np.asarray(value)[step].item()
    inside = (names or value.dtype == object) and step.isdecimal() and int(step) < value.size
    return value.ravel(order="F")[int(step)] if inside else None


def _read_mat73(path: Path, key: str | None) -> np.ndarray:
    h5py = _h5py(path)
    with h5py.File(path, "r") as file:
        name, *steps = (key or "").split("/")
        name = choose(path, (k for k in file if k not in ("#refs#", "#subsystem#")), name or None)

        def enter(value: Any, step: str) -> Any:
            if isinstance(value, h5py.Group):
                return value.get(step)
            cells = value.dtype == h5py.ref_dtype and step.isdecimal() and int(step) < value.size
            return file[value[()].ravel()[int(step)]] if cells else None

        value = walk(path, file[name], name, steps, enter)
        return _dataset(path, value, key or name).T.copy()


# --- HDF5 ---


def read_hdf5(path: str | Path, key: str | None = None) -> np.ndarray:
    """One dataset of an HDF5 file, in C order; ``key`` may be left out when there is only one.

    Compounds of two numbers (r, i) or (real, imag) are complex.
    """
    h5py = _h5py(path)
    with opened(path, "an HDF5 file", KeyError) as name, h5py.File(name, "r") as file:
        if key is None:
            found: list[str] = []
            file.visititems(lambda n, item: found.append(n) if isinstance(item, h5py.Dataset) else None)
            key = choose(name, found, None)
        inside = lambda value, step: value.get(step) if isinstance(value, h5py.Group) else None  # noqa: E731
        return _dataset(name, walk(name, file, "", [s for s in key.split("/") if s], inside), key)


def _h5py(path: str | Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise DataError(f"{path} is HDF5, which needs h5py: pip install 'pnpkit[io]'.") from error
    return h5py


def _dataset(path: Path, value: Any, key: str) -> np.ndarray:
    """The array of an HDF5 dataset; complex where it is stored as pairs."""
    if hasattr(value, "keys"):
        raise DataError(f"{path}: {key!r} is a group of {', '.join(value.keys()) or 'nothing'}; name one as '{key}/…'.")
    array = value[()]
    names = array.dtype.names if isinstance(array, np.ndarray) else None
    if names in (("real", "imag"), ("r", "i")):
        array = array[names[0]] + 1j * array[names[1]]
    return numeric(path, array, key)
