"""``pnpkit solve``: a YAML file, a measurement in, an image out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pnpkit.composition import Reconstructor, compose
from pnpkit.errors import DataError, ShapeError, SpecError, suggest
from pnpkit.io.mappings import read_mapping
from pnpkit.solvers.result import Result
from pnpkit.spec import load_tensor

KEYS = ("operator", "prior", "solver", "noise", "scale", "seed")


@dataclass(frozen=True)
class Outcome:
    """The result, what to print about it, and whether it was cut short."""

    result: Result
    lines: list[str]
    interrupted: bool


def read_config(path: Path) -> dict[str, Any]:
    """The mapping of a YAML file; ``{"file": …}`` in it is relative to the config's own folder."""
    config = read_mapping(path, "Config", " with operator and noise")
    for key in config:
        if key not in KEYS:
            raise SpecError(f"{path}: unknown key {key!r}.{suggest(str(key), KEYS)}")
    if "operator" not in config:
        raise SpecError(f"{path}: 'operator' is missing.")
    return _located(config, path.parent)


def _located(value: Any, folder: Path) -> Any:
    if isinstance(value, Mapping):
        return {
            k: str(folder / v)
            if k == "file" and isinstance(v, str) and not Path(v).is_absolute()
            else _located(v, folder)
            for k, v in value.items()
        }
    return [_located(v, folder) for v in value] if isinstance(value, list) else value


def run(
    config: Path,
    input: Path,
    out: Path,
    key: str | None = None,
    simulate: bool = False,
    picture: Path | None = None,
    checkpoint: Path | None = None,
    progress: bool = True,
) -> Outcome:
    """Reconstruct ``input`` by ``config`` and write ``out``; see ``pnpkit solve --help``."""
    settings = read_config(config)
    seed = settings.pop("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise SpecError(f"{config}: seed must be an integer, given {seed!r}.")
    reconstruct = compose(**settings)
    _writable(out, *([picture] if picture else []))
    data = _fitted(load_tensor({"file": str(input), "key": key}), reconstruct, simulate, input)
    clean = data if simulate else None
    y = _simulated(reconstruct, data, seed) if simulate else data
    result = reconstruct(y, seed=seed, progress=progress, checkpoint=checkpoint)
    _write(result, out)
    if picture:
        _picture(result.x, picture)
    return Outcome(result, _lines(result, reconstruct, out, clean), result.stopped == "interrupted")


def _fitted(data: torch.Tensor, reconstruct: Reconstructor, simulate: bool, path: Path) -> torch.Tensor:
    """The file's array in the operator's precision; real stays real, complex stays complex."""
    op = reconstruct.operator
    shape, dtype = (op.in_shape, op.in_dtype) if simulate else (op.out_shape, op.out_dtype)
    if data.shape not in (shape, (*data.shape[:1], *shape)):
        what = "an image" if simulate else "a measurement"
        raise ShapeError(f"{path} holds {tuple(data.shape)}; the operator takes {what} {shape}, or a batch of them.")
    if data.is_complex() and not dtype.is_complex:
        raise ShapeError(f"{path} is complex, the operator works on {dtype}.")
    return data.to(dtype)


def _simulated(reconstruct: Reconstructor, x: torch.Tensor, seed: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    single = x.ndim == len(reconstruct.operator.in_shape)
    y = reconstruct.likelihood.sample(reconstruct.operator(x[None] if single else x), rng)
    return y[0] if single else y


def _writable(*paths: Path) -> None:
    """Refuse before the work, not after it."""
    for path in paths:
        if path.suffix.lower() not in (".npy", ".safetensors", ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"):
            raise SpecError(f"{path}: write .npy or an image (x), or .safetensors (the whole result).")
        if not path.absolute().parent.is_dir():
            raise DataError(f"The folder {path.absolute().parent} does not exist; make it first.")


def _write(result: Result, out: Path) -> None:
    if out.suffix.lower() == ".safetensors":
        result.save(out)
    elif out.suffix.lower() == ".npy":
        np.save(out, result.x.numpy())
    else:
        _picture(result.x, out)


def _picture(x: torch.Tensor, path: Path) -> None:
    """An 8-bit picture: magnitude when complex, the first of a batch, scaled down when above 1."""
    from pnpkit.io.images import write_image

    image = x[0] if x.ndim == 4 else x
    image = image.abs() if image.is_complex() else image
    image = image / image.max().clamp_min(1e-12) if x.is_complex() or image.max() > 1.5 else image
    write_image(path, image.clamp(0, 1))


def _lines(result: Result, reconstruct: Reconstructor, out: Path, clean: torch.Tensor | None) -> list[str]:
    names = [type(p).__name__ for p in (reconstruct.operator, reconstruct.prior, reconstruct.solver) if p is not None]
    calls = ", ".join(f"{n} {v}" for n, v in result.calls.items() if v)
    lines = [f"{' × '.join(names)}: {result.steps} steps ({result.stopped}) in {result.seconds:.1f} s; calls: {calls}"]
    lines += [f"note: {note}" for note in result.notes]
    if not bool(result.finite.all()):
        lines.append(
            f"diverged samples: {(~result.finite).nonzero().flatten().tolist()} (their last finite iterate is kept)"
        )
    if clean is not None:
        from pnpkit.metrics.image import psnr

        peak = float(clean.abs().max())
        x, ref = (t.abs() if t.is_complex() else t for t in (result.x, clean))
        x, ref = (t[None] if t.ndim == len(reconstruct.operator.in_shape) else t for t in (x, ref))
        lines.append(f"PSNR against the input: {float(psnr(x, ref, data_range=peak).mean()):.2f} dB (peak {peak:g})")
    return [*lines, f"wrote {out}"]
