"""MATLAB files, version 5 and 7.3: ``read_mat(path, "struct/field")``, cells by number, in MATLAB's column order."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from pnpkit.io.arrays import Entry
from pnpkit.io.files import choose, numeric, opened, walk
from pnpkit.io.hdf5 import dataset, hdf5_entries, opened_hdf5


def read_mat(path: str | Path, key: str | None = None) -> np.ndarray:
    """One variable of a .mat file, version 5 or 7.3, in MATLAB's shape and axis order.

    key : "variable", and inside it cells by number and structs by field: "kernels/3", "data/kspace".
    """
    with opened(path, "a MATLAB file") as file:
        return _read_mat73(file, key) if _is_hdf5(file) else _read_mat5(file, key)


def mat_entries(path: str | Path) -> dict[str, Entry]:
    """MATLAB's size and class of every variable."""
    from scipy.io import loadmat, whosmat

    with opened(path, "a MATLAB file") as file:
        if not _is_hdf5(file):
            entries = {name: (tuple(shape), kind) for name, shape, kind in whosmat(file)}
            for name in [n for n, (_, kind) in entries.items() if kind == "struct"]:
                _list_fields(loadmat(file, variable_names=[name])[name], name, entries)
            return entries
    inside = {k: v for k, v in hdf5_entries(path).items() if not k.startswith(("#refs#", "#subsystem#"))}
    return {k: (shape[::-1], "cell" if kind == "object" else kind) for k, (shape, kind) in inside.items()}


def _list_fields(value: Any, name: str, entries: dict[str, Entry]) -> None:
    """The fields of a struct, and of structs in it, by their keys."""
    if value.dtype.names is None or value.size != 1:
        entries[name] = (value.shape, "cell" if value.dtype == object else str(value.dtype))
        return
    entries.pop(name, None)
    for field in value.dtype.names:
        _list_fields(np.asarray(value[field].item()), f"{name}/{field}", entries)


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
    with opened_hdf5(path, "a MATLAB file") as file:
        import h5py

        name, *steps = (key or "").split("/")
        name = choose(path, (k for k in map(os.fsdecode, file) if k not in ("#refs#", "#subsystem#")), name or None)

        def enter(value: Any, step: str) -> Any:
            if isinstance(value, h5py.Group):
                return value.get(step)
            cells = value.dtype == h5py.ref_dtype and step.isdecimal() and int(step) < value.size
            return file[value[()].ravel()[int(step)]] if cells else None

        value = walk(path, file[name], name, steps, enter)
        return dataset(path, value, key or name).T.copy()
