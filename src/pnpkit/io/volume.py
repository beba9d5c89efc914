"""A scan with what its file tells about space and units."""

from dataclasses import dataclass, field

import numpy as np

from pnpkit.errors import ShapeError


@dataclass(frozen=True)
class Geometry:
    """Where voxels lie and what their values are.

    affine : (4, 4) float64, from the voxel's indices (along W, along H, along D, 1) to millimetres (right, anterior,
        superior, 1): NIfTI's convention, also for volumes read from DICOM, whose own axes point left and posterior.
    placed : whether the file told orientation and position; without, the affine holds the voxel size alone.
    unit : of the values, such as "HU"; "" where the file does not tell.
    """

    affine: np.ndarray = field(default_factory=lambda: np.eye(4))
    placed: bool = False
    unit: str = ""

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """In mm, along D, H and W."""
        w, h, d = (float(n) for n in np.linalg.norm(self.affine[:3, :3], axis=0))
        return d, h, w

    @property
    def orientation(self) -> str:
        """Where growing indices lead along D, H and W, as letters of L/R, A/P, S/I; "?" where that is not known."""
        if not self.placed:
            return "???"
        letters = ""
        for axis in (2, 1, 0):
            direction = self.affine[:3, axis]
            most = int(np.argmax(np.abs(direction)))
            letters += ("RL", "AP", "SI")[most][int(direction[most] < 0)]
        return letters


@dataclass(frozen=True)
class Volume:
    """values (C, D, H, W), C = 1 for one scan, time points otherwise; facts : what else the file told, by name."""

    values: np.ndarray
    geometry: Geometry = field(default_factory=Geometry)
    facts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.values.ndim != 4:
            raise ShapeError(f"Volume: values must be (C, D, H, W), given {self.values.shape}.")
