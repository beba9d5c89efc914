"""What a file holds, without loading more of it than is needed: ``pnpkit info``."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pnpkit import registry
from pnpkit.errors import DataError
from pnpkit.io import arrays
from pnpkit.io.arrays import Entry
from pnpkit.io.cfl import read_cfl
from pnpkit.io.dicom import open_dicom
from pnpkit.io.fastmri import FastMRI
from pnpkit.io.hdf5 import hdf5_entries
from pnpkit.io.images import read_image
from pnpkit.io.matlab import mat_entries
from pnpkit.io.nifti import open_nifti
from pnpkit.io.volume import Volume
from pnpkit.spec import reader_name


@dataclass(frozen=True)
class Info:
    """entries : arrays by key ("" where the file holds one); facts : what else it tells; values : the only array."""

    format: str
    entries: dict[str, Entry]
    facts: dict[str, str] = field(default_factory=dict)
    values: np.ndarray | None = None


def info(path: str | Path) -> Info:
    """What is in a file of any format that pnpkit reads, or in a folder of DICOM slices."""
    path = Path(path)
    if not path.exists():
        raise DataError(f"File {path} does not exist (looked from {Path.cwd()}).")
    if path.is_dir():
        return _volume("DICOM series", open_dicom(path))
    name = path.name.lower()
    for suffixes, look in LOOK.items():
        if name.endswith(suffixes):
            return look(path)
    if (suffix := reader_name(path)) in registry.names("readers"):  # a plugin's
        return _single(suffix, lambda file: np.asarray(registry.get("readers", suffix)(file, None)))(path)
    known = dict.fromkeys([s for suffixes in LOOK for s in suffixes] + [f".{n}" for n in registry.names("readers")])
    raise DataError(f"{path}: pnpkit reads {', '.join(known)}, and DICOM folders.")


def _volume(format: str, volume: Volume) -> Info:
    g = volume.geometry
    facts = {
        "axes": "(C, D, H, W)",
        "voxel size": " × ".join(f"{s:.4g}" for s in g.voxel_size) + " mm along D, H, W",
        "orientation": f"{g.orientation} along D, H, W" if g.placed else "not told",
        "unit": g.unit or "not told",
    }
    return Info(format, one(volume.values), facts | volume.facts, volume.values)


def _slice(path: Path) -> Info:
    told = _volume("DICOM slice", open_dicom(path))
    assert told.values is not None
    values = told.values[:, 0]  # as read_dicom has it
    return Info(told.format, one(values), told.facts | {"axes": "(C, H, W)"}, values)


def one(values: np.ndarray) -> dict[str, Entry]:
    return {"": (values.shape, str(values.dtype))}


def _single(format: str, read: Callable[[Path], np.ndarray], axes: str = "") -> Callable[[Path], Info]:
    def look(path: Path) -> Info:
        values = read(path)
        return Info(format, one(values), {"axes": axes} if axes else {}, values)

    return look


def _many(format: str, entries: Callable[[Path], dict[str, Entry]]) -> Callable[[Path], Info]:
    return lambda path: Info(format, entries(path))


def _hdf5(path: Path) -> Info:
    entries = hdf5_entries(path)
    if "kspace" not in entries or len(entries["kspace"][0]) not in (3, 4):
        return Info("HDF5", entries)
    return Info("fastMRI (HDF5)", entries, FastMRI(path).facts)


LOOK: dict[tuple[str, ...], Callable[[Path], Info]] = {
    (".npy",): _single("NumPy array", arrays.read_npy),
    (".npz",): _many("NumPy archive", arrays.npz_entries),
    (".safetensors",): _many("safetensors", arrays.safetensors_entries),
    (".mat",): _many("MATLAB", mat_entries),
    (".h5", ".hdf5"): _hdf5,
    (".cfl", ".hdr"): _single("BART array", read_cfl, "readout and phase encodings last, coils before them"),
    (".nii", ".nii.gz"): lambda path: _volume("NIfTI volume", open_nifti(path)),
    (".dcm",): _slice,
    (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"): _single("image", read_image, "(C, H, W) in [0, 1]"),
}
