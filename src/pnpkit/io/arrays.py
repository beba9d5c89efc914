"""Arrays from NumPy, safetensors, MATLAB and HDF5 files: ``read(path, key)``.

``key`` names an array in a file that holds several, and goes inside with "/": "group/dataset",
"struct/field", "cells/3" (cells count from 0, in MATLAB's column order). Pickles are never loaded.
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pnpkit.errors import DataError
from pnpkit.io.files import choose, listed, no_key, numeric, opened, walk

Entry = tuple[tuple[int, ...], str]  # shape, dtype


def read_npy(path: str | Path, key: str | None = None) -> np.ndarray:
    """The array of a .npy file; it has no keys."""
    no_key(path, key)
    with opened(path, "a .npy file") as name, name.open("rb") as file:
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
    with opened(path, "a .npz file") as file:
        if not zipfile.is_zipfile(file):
            raise DataError(f"{file} is not a .npz archive: it is truncated, or a .npy file under a wrong name.")
        with np.load(file, allow_pickle=False) as arrays:
            name = choose(file, arrays.files, key)
            return numeric(file, arrays[name], name)


def npz_entries(path: str | Path) -> dict[str, Entry]:
    """Shape and dtype of every array in a .npz file, from the headers alone."""
    entries = {}
    with opened(path, "a .npz file") as file, zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            with archive.open(name) as member:
                version = np.lib.format.read_magic(member)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(member)
            entries[name.removesuffix(".npy")] = (tuple(shape), str(dtype))
    return entries


def safetensors_entries(path: str | Path) -> dict[str, Entry]:
    """Shape and dtype of every tensor in a safetensors file."""
    from safetensors import safe_open

    with (
        opened(path, "a safetensors file") as file,
        safe_open(str(file), framework="pt") as tensors,
    ):
        slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118
        return {name: (tuple(s.get_shape()), str(s.get_dtype())) for name, s in slices.items()}


def read_safetensors(path: str | Path, key: str | None = None) -> torch.Tensor:
    """One tensor of a safetensors file, in its own dtype; ``key`` may be left out when there is only one."""
    from safetensors import safe_open

    with (
        opened(path, "a safetensors file") as file,
        safe_open(str(file), framework="pt") as tensors,
    ):
        return tensors.get_tensor(choose(file, tensors.keys(), key))


# --- MATLAB ---


def read_mat(path: str | Path, key: str | None = None) -> np.ndarray:
    """One variable of a .mat file, version 5 or 7.3, in MATLAB's shape and axis order.

    key : "variable", and inside it cells by number and structs by field: "kernels/3", "data/kspace".
    """
    with opened(path, "a MATLAB file") as file:
        return _read_mat73(file, key) if _is_hdf5(file) else _read_mat5(file, key)


def mat_entries(path: str | Path) -> dict[str, Entry]:
    """MATLAB's size and class of every variable."""
    from scipy.io import whosmat

    with opened(path, "a MATLAB file") as file:
        if not _is_hdf5(file):
            return {name: (tuple(shape), kind) for name, shape, kind in whosmat(file)}
    inside = {k: v for k, v in hdf5_entries(path).items() if not k.startswith(("#refs#", "#subsystem#"))}
    return {k: (shape[::-1], "cell" if kind == "object" else kind) for k, (shape, kind) in inside.items()}


def _is_hdf5(path: Path) -> bool:
    # A 7.3 file is HDF5 behind a 512-byte user block.
    with path.open("rb") as file:
        head = file.read(520)
    return b"\x89HDF\r\n\x1a\n" in (head[:8], head[512:])


def _read_mat5(path: Path, key: str | None) -> np.ndarray:
    from scipy.io import loadmat

    variables = loadmat(path)
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
    h5py = hdf5(path)
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
    h5py = hdf5(path)
    with opened(path, "an HDF5 file") as name, h5py.File(name, "r") as file:
        if key is None:
            found: list[str] = []
            file.visititems(lambda n, item: found.append(n) if isinstance(item, h5py.Dataset) else None)
            key = choose(name, found, None)
        inside = lambda value, step: value.get(step) if isinstance(value, h5py.Group) else None  # noqa: E731
        return _dataset(name, walk(name, file, "", [s for s in key.split("/") if s], inside), key)


def hdf5_entries(path: str | Path) -> dict[str, Entry]:
    """Shape and dtype of every dataset in an HDF5 file."""
    h5py = hdf5(path)
    entries: dict[str, Entry] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            entries[name] = (tuple(item.shape or ()), str(item.dtype))

    with opened(path, "an HDF5 file") as name, h5py.File(name, "r") as file:
        file.visititems(visit)
    return entries


def hdf5(path: str | Path) -> Any:
    """The module h5py; DataError where it is missing."""
    try:
        import h5py
    except ImportError as error:
        raise DataError(f"{path} is HDF5, which needs h5py: pip install 'pnpkit[io]'.") from error
    return h5py


def _dataset(path: Path, value: Any, key: str) -> np.ndarray:
    """The array of an HDF5 dataset; complex where it is stored as pairs."""
    if hasattr(value, "keys"):
        raise DataError(f"{path}: {key!r} is a group of {listed(value.keys()) or 'nothing'}; name one as '{key}/…'.")
    array = value[()]
    names = array.dtype.names if isinstance(array, np.ndarray) else None
    if names in (("real", "imag"), ("r", "i")):
        array = array[names[0]] + 1j * array[names[1]]
    return numeric(path, array, key)
