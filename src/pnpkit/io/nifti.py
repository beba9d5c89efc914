"""NIfTI volumes (.nii, .nii.gz), with orientation, voxel size and units kept on the way in and out."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from pnpkit.errors import DataError, ShapeError
from pnpkit.io.files import no_key, numeric, opened, plausible_size
from pnpkit.io.volume import Geometry, Volume

MILLIMETRES = {"mm": 1.0, "meter": 1e3, "micron": 1e-3, "unknown": 1.0}
UNIT = "unit="  # how a unit of values is written into the header's description


def read_nifti(path: str | Path, key: str | None = None) -> np.ndarray:
    """(C, D, H, W), C = 1 or the time points: NIfTI's axes i, j, k are W, H, D. Scaled by the header's slope.

    float32, or as stored where that is complex, float64 or unscaled integer.
    """
    no_key(path, key)
    return open_nifti(path).values


def open_nifti(path: str | Path) -> Volume:
    """The volume with its geometry; DataError for anything that is not one."""
    try:
        import nibabel
    except ImportError as error:
        raise DataError(f"{path} is NIfTI, which needs nibabel: pip install 'pnpkit[io]'.") from error
    with opened(path, "a NIfTI volume") as file:
        image: Any = nibabel.load(file)  # type: ignore[attr-defined]
        if not hasattr(image.header, "get_xyzt_units"):
            raise DataError(f"{file} is {type(image).__name__}; save it as NIfTI (.nii or .nii.gz).")
        shape, stored = image.shape, image.get_data_dtype()
        plausible_size(file, shape, stored.itemsize)
        if not 2 <= len(shape) <= 4:
            raise DataError(f"{file}: expected 2 to 4 axes, given {shape}.")
        slope, shift = image.dataobj.slope, image.dataobj.inter
        array = numeric(file, image.dataobj.get_unscaled(), None)
        if (slope, shift) != (1, 0):
            array = (array * slope + shift).astype(np.complex64 if array.dtype.kind == "c" else np.float32)
        array = array.reshape(*array.shape, *[1] * (4 - array.ndim)).transpose(3, 2, 1, 0)
        return Volume(np.ascontiguousarray(array), _geometry(file, image), _facts(image.header))


def _geometry(path: Path, image: Any) -> Geometry:
    header = image.header
    scale = MILLIMETRES.get(header.get_xyzt_units()[0])
    affine = np.array(image.affine, dtype=np.float64)
    if scale is None or not np.isfinite(affine).all():
        raise DataError(f"{path}: the header's affine or its unit {header.get_xyzt_units()[0]!r} makes no sense.")
    affine[:3] *= scale
    told = header["descrip"].item().decode("latin-1")
    unit = told.removeprefix(UNIT) if told.startswith(UNIT) else ""
    return Geometry(affine, bool(header["sform_code"] > 0 or header["qform_code"] > 0), unit)


def _facts(header: Any) -> dict[str, str]:
    told = header["descrip"].item().decode("latin-1").strip()
    return {"stored as": str(header.get_data_dtype())} | ({"description": told} if told else {})


def write_nifti(path: str | Path, values: np.ndarray | torch.Tensor, geometry: Geometry | None = None) -> None:
    """Write (C, D, H, W) or (D, H, W), in their own dtype, with ``geometry``: that of the volume they came from."""
    try:
        import nibabel
    except ImportError as error:
        raise DataError(f"{path}: writing NIfTI needs nibabel: pip install 'pnpkit[io]'.") from error
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().resolve_conj().numpy()
    if values.ndim not in (3, 4):
        raise ShapeError(f"write_nifti: values must be (C, D, H, W) or (D, H, W), given {values.shape}.")
    if values.dtype.kind == "b" or values.dtype in (np.float16, np.int64, np.uint64):
        raise DataError(f"write_nifti: NIfTI holds no {values.dtype}, or few programs read it; convert it first.")
    if not str(path).endswith((".nii", ".nii.gz")):
        raise DataError(f"{path}: the name must end in .nii or .nii.gz.")
    geometry = geometry or Geometry()
    array = values.T if values.ndim == 3 else values.transpose(3, 2, 1, 0)
    image: Any = nibabel.Nifti1Image(array[..., 0] if array.shape[3:] == (1,) else array, geometry.affine)  # type: ignore[attr-defined]
    image.header.set_xyzt_units("mm")
    image.set_sform(geometry.affine, code=1 if geometry.placed else 0)
    image.set_qform(geometry.affine, code=1 if geometry.placed else 0)
    if geometry.unit:
        image.header["descrip"] = f"{UNIT}{geometry.unit}".encode()
    try:
        nibabel.save(image, path)  # type: ignore[attr-defined]
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}.") from error
