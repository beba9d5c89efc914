"""A training that takes seconds: little images, a little network."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pnpkit.training.recipe import Recipe


def pictures(folder: Path, n: int = 6, size: tuple[int, int] = (24, 28), mode: str = "RGB", seed: int = 0) -> Path:
    """A folder of PNGs with smooth shapes and some noise."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]] / max(size)
    for i in range(n):
        a, b, c = rng.uniform(2, 9, 3)
        image = 0.5 + 0.4 * np.sin(a * x + c) * np.cos(b * y) + 0.05 * rng.standard_normal(size)
        grey = (255 * image.clip(0, 1)).astype(np.uint8)
        Image.fromarray(grey if mode == "L" else np.stack([grey, 255 - grey, grey // 2], -1)).save(folder / f"{i}.png")
    return folder


def recipe(folder: Path, steps: int = 12, **changes: Any) -> Recipe:
    """Grey crops of 16 from ``folder``; ``changes`` are "optimiser.rate" or "seed"."""
    told: dict[str, Any] = {
        "name": "toy",
        "data": [{"kind": "images", "path": str(folder)}],
        "image": {"crop": 16, "mean": 0.5},
        "network": {"widths": [16, 32], "blocks": 1},
        "optimiser": {
            "steps": steps, "batch": 4, "warmup": 3, "rate": 0.002, "bf16": False, "compile": False, "log_every": 2,
        },
        "validation": {"data": [{"kind": "images", "path": str(folder)}], "every": 6, "size": 16, "sigmas": [0.1, 0.5]},
    }  # fmt: skip
    for key, value in changes.items():
        part, _, name = key.rpartition(".")
        (told[part] if part else told)[name] = value
    return Recipe(**told)
