"""Arrays as pictures inside the page."""

import base64
import io

import numpy as np

SIDE = 256  # pixels of a picture, at most
QUALITY = 88


def shown(image: np.ndarray, data_range: float = 1.0) -> np.ndarray:
    """(C, H, W), real or complex, as (H, W) or (H, W, 3) bytes: magnitude, middle slice of a volume, clipped."""
    a = np.abs(image) if np.iscomplexobj(image) else image
    while a.ndim > 3:
        a = a[:, a.shape[1] // 2]
    a = np.clip(a / data_range, 0, 1)
    a = a.transpose(1, 2, 0) if a.shape[0] == 3 else a[0]
    return np.rint(255 * a).astype(np.uint8)


def error(image: np.ndarray, truth: np.ndarray, data_range: float = 1.0, gain: float = 5.0) -> np.ndarray:
    """gain·|image − truth|, mean over channels, as (H, W) bytes."""
    gap = np.abs(image - truth).mean(0, keepdims=True)
    return shown(gain * gap, data_range)


def data_url(pixels: np.ndarray) -> str:
    """A JPEG, or a PNG where that is smaller; pictures larger than 256 pixels are scaled down."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    if max(picture.size) > SIDE:
        scale = SIDE / max(picture.size)
        picture = picture.resize([max(1, round(n * scale)) for n in picture.size], Image.Resampling.LANCZOS)
    found = []
    for kind, options in (("jpeg", {"quality": QUALITY}), ("png", {"optimize": True})):
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        found.append((len(buffer.getvalue()), kind, buffer.getvalue()))
    _, kind, content = min(found)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
