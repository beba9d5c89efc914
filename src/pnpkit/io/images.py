"""Photographs: PNG, JPEG, BMP and TIFF through Pillow."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from pnpkit.errors import DataError, ShapeError
from pnpkit.io.files import no_key, opened

GREY16 = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # Pillow calls 16-bit grey "I" for some files


def read_image(path: str | Path, key: str | None = None) -> np.ndarray:
    """(C, H, W) float32 in [0, 1], C = 1 for grey and 3 for colour; 8 or 16 bit.

    Upright (the camera's orientation tag is applied); palettes and CMYK become RGB; an alpha channel is
    dropped. 16-bit colour is read with 8 bits, as Pillow does.
    """
    from PIL import Image, ImageOps

    no_key(path, key)
    with opened(path, "an image") as file, Image.open(file) as image:
        return _pixels(ImageOps.exif_transpose(image), file)


def _pixels(image: Any, path: Path) -> np.ndarray:
    if image.mode in GREY16:
        array = np.asarray(image).astype(np.int64)
        if array.min() < 0 or array.max() > 65535:
            raise DataError(
                f"{path} holds 32-bit values from {array.min()} to {array.max()}; save it as .npy, or as 16 bit."
            )
        return (array[None] / 65535).astype(np.float32)
    if image.mode == "F":
        raise DataError(f"{path} holds floating-point values, whose range an image does not tell; save it as .npy.")
    grey = image.mode in ("1", "L", "LA", "La")
    array = np.asarray(image.convert("L" if grey else "RGB"), dtype=np.float32) / 255
    return np.ascontiguousarray(array[None] if grey else array.transpose(2, 0, 1))


def write_image(path: str | Path, image: torch.Tensor | np.ndarray, bits: Literal[8, 16] = 8) -> None:
    """Write (C, H, W) or (1, C, H, W), C = 1 or 3, values in [0, 1] (clipped); the suffix is the format.

    bits : 16 for grey PNG and TIFF only.
    """
    from PIL import Image

    array = np.asarray(image.detach().cpu()) if isinstance(image, torch.Tensor) else image
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 3 or array.shape[0] not in (1, 3):
        raise ShapeError(f"write_image: an image is (1 or 3, H, W), given {tuple(array.shape)}.")
    if array.dtype.kind not in "fb" or not np.isfinite(array).all():
        raise DataError(
            f"write_image: values must be real, finite and in [0, 1], given {array.dtype}; take .abs() or scale."
        )
    if bits == 16 and array.shape[0] == 3:
        raise DataError("write_image: 16 bits are for grey images; Pillow writes colour with 8.")
    top, kind = (255, np.uint8) if bits == 8 else (65535, np.uint16)
    levels = np.rint(np.clip(array, 0, 1).astype(np.float64) * top).astype(kind)
    try:
        Image.fromarray(levels[0] if len(levels) == 1 else levels.transpose(1, 2, 0)).save(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be written as an image: {error}.") from error
