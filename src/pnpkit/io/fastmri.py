"""fastMRI's HDF5 files: k-space of one scan, slice by slice."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np

from pnpkit.errors import DataError
from pnpkit.io.hdf5 import opened_hdf5

TARGETS = ("reconstruction_rss", "reconstruction_esc")


class FastMRI:
    """A multi-coil or single-coil file of the fastMRI dataset (Zbontar et al., arXiv:1811.08839, sect. 4).

    Slices are read one at a time; a file of 1 GB needs no gigabyte.

    shape : (slices, coils, H, W) of the k-space, centred, readout along H; coils = 1 for single-coil files.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        with self._file() as file:
            if "kspace" not in file:
                raise DataError(f"{path} is HDF5 without a dataset 'kspace': not a fastMRI file; use read_hdf5.")
            shape, dtype = file["kspace"].shape, file["kspace"].dtype
            if len(shape) not in (3, 4) or dtype.kind != "c":
                raise DataError(
                    f"{path}: kspace must be complex (slices, [coils,] H, W), given {tuple(shape)} {dtype}."
                )
            self.single_coil = len(shape) == 3
            self.shape = (shape[0], 1, *shape[1:]) if self.single_coil else tuple(shape)
            self.facts = _facts(path, file)
            self._target = next((name for name in TARGETS if name in file), None)

    def __len__(self) -> int:
        return self.shape[0]

    def kspace(self, i: int) -> np.ndarray:
        """(coils, H, W) complex64 of slice ``i``."""
        with self._file() as file:
            y = file["kspace"][self._slice(i)].astype(np.complex64)
        return y[None] if self.single_coil else y

    def target(self, i: int) -> np.ndarray:
        """(1, h, w) float32: the reconstruction stored with the fully sampled files, cropped to the region shown."""
        if self._target is None:
            raise DataError(f"{self.path} holds no reconstruction ({', '.join(TARGETS)}): a test or challenge file.")
        with self._file() as file:
            return file[self._target][self._slice(i)].astype(np.float32)[None]

    def mask(self) -> np.ndarray | None:
        """(W,) bool: the columns that were measured, or None in fully sampled files."""
        with self._file() as file:
            return np.asarray(file["mask"], dtype=bool) if "mask" in file else None

    def _slice(self, i: int) -> int:
        if not -len(self) <= i < len(self):
            raise DataError(f"{self.path} has slices 0 to {len(self) - 1}, asked for {i}.")
        return i % len(self)

    def _file(self) -> Any:
        return opened_hdf5(self.path, "a fastMRI file")


def _facts(path: str | Path, file: Any) -> dict[str, str]:
    """Acquisition, patient-free, and the encoded and the shown matrix and field of view (mm)."""
    told = {k: str(file.attrs[k]) for k in ("acquisition", "max", "norm") if k in file.attrs}
    if "ismrmrd_header" not in file:
        return told
    try:
        root = ElementTree.fromstring(file["ismrmrd_header"][()])
    except (ElementTree.ParseError, TypeError, ValueError) as error:
        raise DataError(f"{path}: its ismrmrd_header is not XML: {error}.") from error
    for space, name in (("encodedSpace", "encoded"), ("reconSpace", "shown")):
        for part, unit in (("matrixSize", ""), ("fieldOfView_mm", " mm")):
            sizes = [root.find(f".//{{*}}{space}/{{*}}{part}/{{*}}{axis}") for axis in "xyz"]
            if all(s is not None for s in sizes):
                told[f"{name} {part.split('_')[0]}"] = " × ".join(str(s.text) for s in sizes if s is not None) + unit
    return told
