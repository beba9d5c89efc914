"""HDF5 files: ``read_hdf5(path, "group/dataset")``."""

import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pnpkit.errors import DataError
from pnpkit.io.arrays import Entry
from pnpkit.io.files import choose, listed, numeric, opened, walk

PATIENCE = 20.0  # seconds for the process that tries a file
WALK = """
import sys, h5py
def look(name, item):
    for steps in (lambda: [item.attrs[k] for k in item.attrs], lambda: small(item)):
        try:
            steps()
        except Exception:
            pass
def small(item):
    if isinstance(item, h5py.Dataset):
        if item.chunks:
            item.id.get_num_chunks()
        if item.size * item.dtype.itemsize < 1 << 20:
            item[()]
try:
    with h5py.File(sys.argv[1], "r") as file:
        look("", file)
        file.visititems(look)
except Exception:
    pass
"""


def read_hdf5(path: str | Path, key: str | None = None) -> np.ndarray:
    """One dataset of an HDF5 file, in C order; ``key`` may be left out when there is only one.

    Compounds of two numbers (r, i) or (real, imag) are complex.
    """
    with opened_hdf5(path) as file:
        import h5py

        name = Path(path)
        if key is None:
            found: list[str] = []
            file.visititems(lambda n, item: found.append(os.fsdecode(n)) if isinstance(item, h5py.Dataset) else None)
            key = choose(name, found, None)
        inside = lambda value, step: value.get(step) if isinstance(value, h5py.Group) else None  # noqa: E731
        return dataset(name, walk(name, file, "", [s for s in key.split("/") if s], inside), key)


def hdf5_entries(path: str | Path) -> dict[str, Entry]:
    """Shape and dtype of every dataset in an HDF5 file."""
    entries: dict[str, Entry] = {}

    def visit(name: str, item: Any) -> None:
        if hasattr(item, "dtype"):
            entries[os.fsdecode(name)] = (tuple(item.shape or ()), str(item.dtype))

    with opened_hdf5(path) as file:
        file.visititems(visit)
    return entries


@contextmanager
def opened_hdf5(path: str | Path, what: str = "an HDF5 file") -> Iterator[Any]:
    """The h5py.File, after a process of its own has seen that the library survives it (``probed``)."""
    with opened(path, what) as file:
        try:
            import h5py
        except ImportError as error:
            raise DataError(f"{path} is HDF5, which needs h5py: pip install 'pnpkit[io]'.") from error
        probed(file)
        with h5py.File(file, "r") as content:
            yield content


def probed(path: Path) -> None:
    """Refuse a file that crashes or hangs the HDF5 library, as some damaged ones do (seen with HDF5 2.0).

    Another process walks its structure, attributes, chunk index and small datasets, once for each state of the file:
    about 0.2 s. PNPKIT_TRUST_HDF5=1 leaves this out.
    """
    if os.environ.get("PNPKIT_TRUST_HDF5") != "1":
        status = path.stat()
        _probe(str(path.absolute()), status.st_size, status.st_mtime_ns)


@functools.cache
def _probe(path: str, size: int, changed: int) -> None:
    try:
        done = subprocess.run([sys.executable, "-I", "-c", WALK, path], capture_output=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{path} is damaged: the HDF5 library hangs on it. Copy it again or convert it.") from error
    if done.returncode < 0:  # errors that the library reports are met again, and told, when the file is read
        raise DataError(f"{path} is damaged: the HDF5 library crashes on it. Copy it again or convert it.")


def dataset(path: Path, value: Any, key: str) -> np.ndarray:
    """The array of an HDF5 dataset; complex where it is stored as pairs."""
    if hasattr(value, "keys"):
        raise DataError(f"{path}: {key!r} is a group of {listed(value.keys()) or 'nothing'}; name one as '{key}/…'.")
    array = value[()]
    names = array.dtype.names if isinstance(array, np.ndarray) else None
    if names in (("real", "imag"), ("r", "i")):
        array = array[names[0]] + 1j * array[names[1]]
    return numeric(path, array, key)
