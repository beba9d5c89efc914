"""Arrays in files that are named by their content, so that a change is noticed."""

import hashlib
from pathlib import Path

import numpy as np

from pnpkit.errors import DataError


def content(array: np.ndarray) -> str:
    """sha256 of type, shape and values."""
    array = np.ascontiguousarray(array)
    return hashlib.sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).hexdigest()


def read(path: Path) -> np.ndarray:
    """The array of a file whose name is its content; DataError when it is missing, damaged or has changed."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is missing or damaged: {error}. Delete it; it is made again.") from error
    if content(array) != path.stem:
        raise DataError(f"{path} has changed since it was written: its content is not what its name says. Delete it.")
    return array
