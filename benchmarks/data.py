"""Real test data for the benchmarks, from the folder PNPKIT_DATA."""

import os
from pathlib import Path

import numpy as np
import torch


def folder() -> Path:
    """The data folder; ends the program with a sentence where there is none."""
    path = Path(os.environ.get("PNPKIT_DATA", ""))
    if not (path / "eval").is_dir():
        raise SystemExit("This benchmark needs real data: set PNPKIT_DATA to the folder that holds eval/ and weights/.")
    return path


def images(name: str, channels: int = 1) -> dict[str, torch.Tensor]:
    """eval/<name> as {file stem: (1, channels, H, W) in [0, 1]}."""
    from PIL import Image

    files = sorted((folder() / "eval" / name).glob("*.[bp][mn][pg]"))
    return {f.stem: _tensor(np.array(Image.open(f).convert("L" if channels == 1 else "RGB"))) for f in files}


def _tensor(array: np.ndarray) -> torch.Tensor:
    array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return torch.from_numpy(array.copy())[None].float() / 255


def levin_kernels() -> list[torch.Tensor]:
    """The eight motion kernels of Levin et al. (CVPR 2009), (1, k, k), sum 1."""
    import h5py

    with h5py.File(folder() / "kernels" / "Levin09.mat") as file:
        refs = file["kernels"][:, 0]
        kernels = [torch.from_numpy(file[r][()].T.copy()).float() for r in refs]
    return [(k / k.sum())[None] for k in kernels]


def noise(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """White standard normal noise of a seed of its own."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
