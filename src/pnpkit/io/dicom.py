"""DICOM slices and series: values in the modality's units (HU for CT), slices in order, geometry in millimetres."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pnpkit.errors import DataError
from pnpkit.io.files import no_key, opened, plausible_size
from pnpkit.io.volume import Geometry, Volume

TO_RAS = np.diag([-1.0, -1.0, 1.0])  # DICOM's patient axes point left, posterior, superior
UNEVEN = 0.02  # of the slice distance
FACTS = ("Modality", "Manufacturer", "BodyPartExamined", "SeriesDescription", "KVP", "RepetitionTime", "EchoTime")


def read_dicom(path: str | Path, key: str | None = None) -> np.ndarray:
    """(1, H, W) float32 of one file, (1, D, H, W) of a folder that holds one series; ``key`` is a SeriesInstanceUID."""
    if Path(path).is_dir():
        return open_dicom(path, key).values
    no_key(path, key)
    return open_dicom(path).values[:, 0]


def open_dicom(path: str | Path, series: str | None = None) -> Volume:
    """A slice, or the series in a folder, as a volume (1, D, H, W) in the rescaled units: HU for CT.

    Slices are put in order along their normal. A folder with several series, missing or doubled slices, or slices
    that do not match is a DataError.
    """
    path = Path(path)
    slices = [_read(p) for p in _of_series(path, series)] if path.is_dir() else [_read(path)]
    for name in slices[0].shared:
        values = {s.shared[name] for s in slices}
        if len(values) > 1:
            raise DataError(f"{path}: the slices differ in {name}: {', '.join(sorted(map(str, values))[:3])}.")
    order, step = _order(path, slices)
    slices = [slices[i] for i in order]
    facts = slices[0].facts | {"slices": str(len(slices))}
    return Volume(np.stack([s.values for s in slices])[None], _geometry(slices[0], step), facts)


@dataclass(frozen=True)
class Slice:
    """One file. values (H, W) float32; corner and directions in DICOM's axes, None where the file has none.

    shared : what all slices of a series have in common: spacing (down, across) in mm, directions of growing column and
        row number (6 numbers), unit. facts : what identifies the scan, not the patient.
    """

    values: np.ndarray
    corner: tuple[float, ...] | None
    shared: dict[str, Any]
    thickness: float
    facts: dict[str, str]

    @property
    def directions(self) -> tuple[np.ndarray, np.ndarray]:
        told = np.array(self.shared["ImageOrientationPatient"], dtype=np.float64)
        return told[:3], told[3:]


def _read(path: Path) -> Slice:
    with _opened(path) as told:
        frames, samples = int(told.get("NumberOfFrames") or 1), int(told.get("SamplesPerPixel", 1))
        if frames != 1 or samples != 1:
            raise DataError(
                f"{path} holds {frames} frames of {samples} samples; a grey slice a file is read here. Split it first "
                "(dcm2niix makes NIfTI of enhanced files)."
            )
        plausible_size(path, (int(told.Rows), int(told.Columns)), max(1, int(told.BitsAllocated) // 8))
        slope, intercept = float(told.get("RescaleSlope", 1)), float(told.get("RescaleIntercept", 0))
        pixels = told.pixel_array
        if pixels.ndim != 2:
            raise ValueError(f"its pixels are {pixels.shape}, not (H, W)")
        corner, turn = _numbers(told, "ImagePositionPatient", 3), _numbers(told, "ImageOrientationPatient", 6)
        return Slice(
            values=(pixels * slope + intercept).astype(np.float32),
            corner=corner if turn else None,
            shared={
                "size": (int(told.Rows), int(told.Columns)),
                "PixelSpacing": _numbers(told, "PixelSpacing", 2) or _numbers(told, "ImagerPixelSpacing", 2) or (1, 1),
                "ImageOrientationPatient": turn,
                "unit": str(told.get("RescaleType") or ("HU" if told.get("Modality") == "CT" else "")),
            },
            thickness=float(told.get("SpacingBetweenSlices") or told.get("SliceThickness") or 1),
            facts={name: str(told.get(name)) for name in FACTS if told.get(name) not in (None, "")},
        )


@contextmanager
def _opened(path: Path, pixels: bool = True) -> Iterator[Any]:
    """pydicom's data set of a file; what it and its decoders raise becomes a DataError."""
    try:
        import pydicom
    except ImportError as error:
        raise DataError(f"{path} is DICOM, which needs pydicom: pip install 'pnpkit[io]'.") from error
    with opened(path, "a DICOM image") as file:
        yield pydicom.dcmread(file, stop_before_pixels=not pixels)


def _numbers(told: Any, name: str, n: int) -> tuple[float, ...] | None:
    """The ``n`` finite numbers of an element, or None where it is absent or empty."""
    value = told.get(name)
    if not value:
        return None
    numbers = tuple(float(v) for v in value)
    if len(numbers) != n or not np.isfinite(numbers).all():
        raise ValueError(f"{name} is {numbers}, not {n} numbers")
    return numbers


def _of_series(folder: Path, wanted: str | None) -> list[Path]:
    """The files of one series."""
    found: dict[Path, str] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and _is_dicom(p)):
        with _opened(path, pixels=False) as told:
            if "Rows" in told:
                found[path] = str(told.get("SeriesInstanceUID", "none"))
    counts = Counter(found.values())
    if not counts:
        raise DataError(f"{folder} holds no DICOM images (files that have DICM at byte 128).")
    if wanted is None and len(counts) > 1:
        told = ", ".join(f"{uid} ({n} slices)" for uid, n in counts.most_common(5))
        raise DataError(f"{folder} holds {len(counts)} series: {told}. Say which with its SeriesInstanceUID as 'key'.")
    wanted = next(iter(counts)) if wanted is None else wanted
    if wanted not in counts:
        raise DataError(f"{folder} holds no series {wanted}; it has {', '.join(counts)}.")
    return [p for p, uid in found.items() if uid == wanted]


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _order(path: Path, slices: list[Slice]) -> tuple[list[int], float]:
    """The slices' order along their normal, and the distance between them in mm."""
    if len(slices) == 1:
        return [0], slices[0].thickness
    corners = [s.corner for s in slices if s.corner]
    if len(corners) < len(slices):
        raise DataError(f"{path}: slices without ImagePositionPatient cannot be put in order.")
    along = np.array(corners) @ np.cross(*slices[0].directions)
    order = np.argsort(along)
    gaps = np.diff(along[order])
    step = float(np.median(gaps))
    uneven = np.flatnonzero(np.abs(gaps - step) > UNEVEN * max(step, 1e-6))
    if step <= 0 or len(uneven):
        where = ", ".join(f"{along[order][i]:.2f} to {along[order][i + 1]:.2f} mm" for i in uneven[:3])
        raise DataError(
            f"{path}: slices are missing or doubled: the usual distance is {step:.3f} mm, not so from "
            f"{where or 'any to any'}."
        )
    return order.tolist(), step


def _geometry(first: Slice, step: float) -> Geometry:
    down, across = first.shared["PixelSpacing"]
    affine = np.eye(4)
    if first.corner is None:
        affine[:3, :3] = np.diag([across, down, step])
    else:
        row, column = first.directions
        affine[:3, :3] = TO_RAS @ np.stack([row * across, column * down, np.cross(row, column) * step], 1)
        affine[:3, 3] = TO_RAS @ np.array(first.corner)
    return Geometry(affine, first.corner is not None, first.shared["unit"])
