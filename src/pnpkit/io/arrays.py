"""Arrays from NumPy and safetensors files: ``read(path, key)``, with ``key`` the name of one among several.

Pickles are never loaded.
"""

import zipfile
from pathlib import Path

import numpy as np
import torch

from pnpkit.errors import DataError
from pnpkit.io.files import choose, no_key, numeric, opened

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
