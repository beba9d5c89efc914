"""BART's cfl format: a text header with the sizes, and complex64 in column-major order."""

import math
from pathlib import Path

import numpy as np

from pnpkit.errors import DataError
from pnpkit.io.files import no_key, opened

SPATIAL = 3  # BART's axes: 0 readout, 1 and 2 phase encoding, 3 coils, 4 sets of maps, …


def read_cfl(path: str | Path, key: str | None = None) -> np.ndarray:
    """A BART array, complex64, in C order; ``path`` is the .cfl or .hdr file, or their common stem.

    BART's spatial axes 0, 1, 2 (readout, two phase encodings) stay in this order and come last; its other
    axes (3 coils, 4 maps, …) precede them in reversed order; axes of size 1 are dropped. So k-space of
    sizes 1 × 230 × 180 × 8 comes out as (coils, H, W) = (8, 230, 180).
    """
    no_key(path, key)
    stem = Path(path).with_suffix("") if Path(path).suffix in (".cfl", ".hdr") else Path(path)
    sizes = _sizes(stem.parent / (stem.name + ".hdr"))
    with opened(stem.parent / (stem.name + ".cfl"), "a BART array") as file:
        wanted, given = 8 * math.prod(sizes), file.stat().st_size
        if given != wanted:
            raise DataError(
                f"{file} has {given} bytes, its header {stem.name}.hdr asks for {wanted} (sizes {sizes}, "
                "complex64); it is truncated, or the header belongs to another file."
            )
        array = np.fromfile(file, dtype="<c8").reshape(sizes, order="F")
    order = (*range(array.ndim - 1, SPATIAL - 1, -1), *range(min(SPATIAL, array.ndim)))
    array = array.transpose(order)
    kept = [n for n in array.shape if n > 1] or [1]
    return np.ascontiguousarray(array.reshape(kept))


def _sizes(header: Path) -> list[int]:
    with opened(header, "the header of a BART array") as file:
        lines = [line.strip() for line in file.read_text().splitlines()]
        if "# Dimensions" not in lines[:-1]:
            raise DataError(f"{file} has no line '# Dimensions' followed by the sizes; it is not a BART header.")
        sizes = [int(word) for word in lines[lines.index("# Dimensions") + 1].split()]
        if not sizes or min(sizes) < 1:
            raise DataError(f"{file}: sizes must be positive, given {sizes}.")
        return sizes
