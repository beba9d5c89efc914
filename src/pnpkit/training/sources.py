"""Where training images come from: one class a kind of file, all returning arrays (C, H, W)."""

import io
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from pnpkit.errors import DataError, suggest
from pnpkit.io import read_cfl, read_dicom, read_image, read_nifti, read_npy, read_npz
from pnpkit.operators.makers.fields import exponential_covariance
from pnpkit.operators.makers.kernels import anisotropic_gaussian_kernel, motion_kernel
from pnpkit.seeds import stream

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601


class Source(BaseModel):
    """One entry of a recipe's data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def arrays(self, channels: int, strict: bool) -> tuple[list[np.ndarray], list[str]]:
        """Images (channels, H, W), uint8 (of 255), float32 or complex64; and a line for each file that was left out."""
        images, skipped = [], []
        for name, read in self.files():
            try:
                images += [with_channels(a, channels, name) for a in read()]
            except DataError as error:
                if strict:
                    raise
                skipped.append(str(error))
        return images, skipped

    def files(self) -> Iterator[tuple[str, Callable[[], list[np.ndarray]]]]:
        """(name, function that reads it) of every file."""
        raise NotImplementedError


class Images(Source):
    """A folder or a zip file of photographs."""

    kind: Literal["images"] = "images"
    path: str

    def files(self):
        path = located(self.path)
        if path.is_dir():
            names = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
            yield from ((str(p), lambda p=p: [bytes_of(read_image(p))]) for p in names)
        else:
            yield from zipped(path)


class Array(Source):
    """One array of images in an .npy or .npz file, (N, H, W) or (N, C, H, W), uint8 or float in [0, 1]."""

    kind: Literal["array"] = "array"
    path: str
    key: str | None = None
    first: int = 0
    last: int | None = None

    def files(self):
        path = located(self.path)

        def read() -> list[np.ndarray]:
            stack = (read_npz if path.suffix == ".npz" else read_npy)(path, self.key)[self.first : self.last]
            if stack.ndim not in (3, 4):
                raise DataError(f"{path}: expected (N, H, W) or (N, C, H, W), given {stack.shape}.")
            return list(stack[:, None] if stack.ndim == 3 else stack)

        yield str(path), read


class Volumes(Source):
    """Slices of NIfTI volumes, scaled to [0, 1] by the volume's 99.9th percentile; nearly empty slices are left out."""

    kind: Literal["volumes"] = "volumes"
    path: str
    names: tuple[str, ...] = Field(default=(), description="file names in the folder; empty for all")
    axes: tuple[Literal[0, 1, 2], ...] = (0, 1, 2)

    def files(self):
        folder = located(self.path)
        paths = [folder / n for n in self.names] or sorted(folder.glob("*.nii*"))
        yield from ((str(p), lambda p=p: self._slices(p)) for p in paths)

    def _slices(self, path: Path) -> list[np.ndarray]:
        volume = read_nifti(path)
        if len(volume) != 1 or not np.isfinite(volume).all():
            raise DataError(f"{path}: expected one finite volume, given (C, D, H, W) = {volume.shape}.")
        volume = volume[0].T.astype(np.float32)  # NIfTI's order of axes
        volume = np.clip(volume / max(float(np.percentile(volume, 99.9)), 1e-12), 0, None)
        slices = [np.moveaxis(volume, a, 0)[i] for a in self.axes for i in range(volume.shape[a])]
        return [s[None].copy() for s in slices if (s > 0.1).mean() > 0.1]


class Dicom(Source):
    """A folder of CT slices in DICOM: Hounsfield units mapped by ``window`` to [0, 1], not clipped."""

    kind: Literal["dicom"] = "dicom"
    path: str
    window: tuple[float, float] = (-1000.0, 1000.0)
    first: int = 0
    last: int | None = None

    def files(self):
        paths = sorted(p for p in located(self.path).rglob("*") if p.is_file())[self.first : self.last]
        yield from ((str(p), lambda p=p: [self._slice(p)]) for p in paths)

    def _slice(self, path: Path) -> np.ndarray:
        low, high = self.window
        return (read_dicom(path) - low) / (high - low)


class KSpace(Source):
    """Fully sampled multi-coil k-space (coils, H, W), .cfl or .npy: combined with its own ESPIRiT maps, complex."""

    kind: Literal["kspace"] = "kspace"
    path: str

    def files(self):
        path = located(self.path)

        def read() -> list[np.ndarray]:
            from pnpkit.operators import MRI
            from pnpkit.operators.makers.coils import espirit_maps

            y = np.squeeze((read_cfl if path.suffix == ".cfl" else read_npy)(path))
            if y.ndim != 3 or not np.iscomplexobj(y):
                raise DataError(f"{path}: expected complex k-space (coils, H, W), given {y.shape} {y.dtype}.")
            coils = torch.from_numpy(np.moveaxis(y, np.argmin(y.shape), 0).astype(np.complex64))
            maps = espirit_maps(coils)
            operator = MRI(mask=torch.ones(1, *coils.shape[-2:]), maps=maps)
            x = operator.adjoint(coils[None])[0].numpy()
            return [x / np.abs(x).max()]

        yield str(path), read


class Kernels(Source):
    """Blur kernels made on the fly, (1, size, size), sum 1: motion paths and anisotropic Gaussians, half each.

    Divided by ``peak``·their sum so that values lie in about [0, 1].
    """

    kind: Literal["kernels"] = "kernels"
    size: PositiveInt = 32
    peak: float = Field(default=0.1, gt=0)

    def arrays(self, channels: int, strict: bool) -> tuple[list[np.ndarray], list[str]]:
        return [], []

    def draw(self, rng: torch.Generator) -> torch.Tensor:
        a, b, c = torch.rand(3, generator=rng, dtype=torch.float64).tolist()
        seed = int(torch.randint(2**31, (1,), generator=rng))
        if seed % 2:
            size = 1 + 2 * int((0.15 + 0.35 * a) * self.size)
            small = motion_kernel(size=size, seed=seed, roughness=0.2 + b)
            before = self.size // 2 - size // 2
            kernel = torch.zeros(1, self.size, self.size, dtype=small.dtype)
            kernel[:, before : before + size, before : before + size] = small
        else:
            widths = (0.02 * self.size + 0.12 * self.size * a, 0.02 * self.size + 0.12 * self.size * b)
            kernel = anisotropic_gaussian_kernel(self.size, *widths, angle_deg=180 * c)
        return (kernel / self.peak).float()


class Samples(Source):
    """Photographs that scikit-image ships (public domain or CC0): no data folder is needed.

    names : of ``skimage.data``. size : shorter side after scaling down.
    """

    kind: Literal["samples"] = "samples"
    names: tuple[str, ...] = Field(min_length=1)
    size: PositiveInt = 256

    def files(self):
        yield from ((name, lambda name=name: [self._image(name)]) for name in self.names)

    def _image(self, name: str) -> np.ndarray:
        from PIL import Image
        from skimage import data

        if not hasattr(data, name):
            raise DataError(f"scikit-image ships no {name!r}.{suggest(name, data.__all__)}")
        image = Image.fromarray(np.asarray(getattr(data, name)()))
        image = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
        scale = self.size / min(image.size)
        image = image.resize([round(scale * n) for n in image.size], Image.Resampling.LANCZOS)
        array = np.array(image)
        return np.ascontiguousarray(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))


class GaussianField(Source):
    """Draws of a Gaussian image with ``makers.exponential_covariance``: their prior is known exactly."""

    kind: Literal["gaussian_field"] = "gaussian_field"
    count: PositiveInt
    size: PositiveInt = 24
    mean: float = 0.5
    std: float = Field(default=0.2, gt=0)
    length: float = Field(default=3.0, gt=0)
    seed: int = Field(default=0, ge=0)

    def files(self):
        yield "draws", self._draws

    def _draws(self) -> list[np.ndarray]:
        covariance = exponential_covariance(size=self.size, std=self.std, length=self.length)[0].double()
        noise = torch.randn(self.count, len(covariance), generator=stream(self.seed)).double()
        draws = self.mean + noise @ torch.linalg.cholesky(covariance).mT
        return list(draws.float().reshape(self.count, 1, self.size, self.size).numpy())


AnySource = Annotated[
    Images | Samples | GaussianField | Array | Volumes | Dicom | KSpace | Kernels, Field(discriminator="kind")
]


def located(path: str) -> Path:
    """As given, or in the folder PNPKIT_DATA."""
    places = [Path(path)]
    if not Path(path).is_absolute() and os.environ.get("PNPKIT_DATA"):
        places.append(Path(os.environ["PNPKIT_DATA"]) / path)
    for place in places:
        if place.exists():
            return place
    raise DataError(
        f"Training data {path} are not here. Looked at: {', '.join(map(str, places))}. Give a path, or set PNPKIT_DATA "
        "to the folder that holds them."
    )


def zipped(path: Path) -> Iterator[tuple[str, Callable[[], list[np.ndarray]]]]:
    """The images in a zip file."""
    from PIL import Image

    def read(name: str) -> list[np.ndarray]:
        try:
            with Image.open(io.BytesIO(archive.read(name))) as image:
                grey = image.mode in ("1", "L", "LA")
                array = np.asarray(image.convert("L" if grey else "RGB"))
        except (OSError, SyntaxError, zipfile.BadZipFile, Image.DecompressionBombError) as error:
            raise DataError(f"{path}: {name} is not a readable image: {error}.") from error
        return [np.ascontiguousarray(array[None] if grey else array.transpose(2, 0, 1))]

    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path} is neither a folder nor a zip file: {error}.") from error
    with archive:
        names = sorted(n for n in archive.namelist() if n.lower().endswith(SUFFIXES))
        yield from ((f"{path}: {n}", lambda n=n: read(n)) for n in names)


def bytes_of(image: np.ndarray) -> np.ndarray:
    """[0, 1] to 255ths: a quarter of the memory."""
    return np.rint(255 * image).astype(np.uint8)


def with_channels(image: np.ndarray, channels: int, name: str) -> np.ndarray:
    """Colour to grey (BT.601), grey to colour; others as they are."""
    have = image.shape[0]
    if have == channels:
        return image
    if (have, channels) == (3, 1):
        grey = np.tensordot(GREY, image.astype(np.float32), 1)[None]
        return np.rint(grey).astype(np.uint8) if image.dtype == np.uint8 else grey
    if (have, channels) == (1, 3):
        return np.repeat(image, 3, 0)
    raise DataError(f"{name} has {have} channels, the recipe wants {channels}.")
