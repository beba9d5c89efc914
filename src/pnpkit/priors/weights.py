"""Weights of trained priors: find, verify, load. Pickles are converted first, never loaded on the way."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pnpkit import registry
from pnpkit.errors import WeightsError
from pnpkit.priors.download import cache_folder, download

State = dict[str, torch.Tensor]


def find(name: str) -> Path:
    """The file: shipped weights by their name; else as given, in the folder PNPKIT_WEIGHTS, in PNPKIT_DATA/weights."""
    if name in registry.names("weights"):
        return shipped(name)
    places = [Path(name)]
    if not Path(name).is_absolute():
        folders = [os.environ.get("PNPKIT_WEIGHTS"), os.environ.get("PNPKIT_DATA")]
        places += [Path(f) / sub / name for f, sub in zip(folders, ("", "weights"), strict=True) if f]
    for place in places:
        if place.is_file():
            return place
    raise WeightsError(
        f"Weights {name} are not here. Looked at: {', '.join(map(str, places))}. Give a path, or set PNPKIT_WEIGHTS to "
        "the folder that holds them."
    )


def shipped(name: str) -> Path:
    """The file of a card: beside it, or fetched from its "url" into the cache, once."""
    card = registry.card(name)
    path = Path(card["file"])
    if path.is_file() or "url" not in card:
        return path
    return download(card["url"], cache_folder() / path.name, card["sha256"])


def load(name: str, sha256: str | None = None) -> State:
    """The tensors of a .safetensors or .npz file, checked against ``sha256``: the card's, for shipped weights."""
    path = find(name)
    if name in registry.names("weights"):
        sha256 = registry.card(name)["sha256"]
    if sha256 is not None and (found := file_digest(path)) != sha256:
        raise WeightsError(
            f"{path} has sha256 {found[:16]}…, expected {sha256[:16]}…: another version, or a damaged copy."
        )
    if path.suffix == ".safetensors":
        return _safetensors(path)
    if path.suffix == ".npz":
        return _npz(path)
    raise WeightsError(
        f"{path} is not .safetensors or .npz. A pickled checkpoint can run code when loaded; convert it once with "
        f"`pnpkit weights convert {path} {path.with_suffix('.safetensors').name}`, with weights_only=True."
    )


def metadata(name: str) -> dict[str, str]:
    """The text that a .safetensors file carries beside its tensors."""
    from safetensors import SafetensorError, safe_open

    path = find(name)
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is truncated or not a safetensors file: {error}") from error


def described(name: str, form: str, hint: str) -> dict[str, Any]:
    """What a file of ``pnpkit train`` says about its network; WeightsError with ``hint`` where it has another form."""
    told = metadata(name)
    if told.get("format") != form:
        raise WeightsError(f"{name} was not written by `pnpkit train` as {form}. {hint}")
    return json.loads(told["network"])


def _safetensors(path: Path) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is truncated or not a safetensors file: {error}") from error


def _npz(path: Path) -> State:
    import zipfile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            return {k: torch.from_numpy(np.array(archive[k])) for k in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile, KeyError, EOFError) as error:
        raise WeightsError(f"{path} is truncated or not an npz file of plain arrays: {error}") from error


def fill(module: nn.Module, state: Mapping[str, torch.Tensor], source: str) -> None:
    """Load into a network; WeightsError naming what is missing, unexpected or of another shape."""
    wanted = module.state_dict()
    missing, extra = sorted(set(wanted) - set(state)), sorted(set(state) - set(wanted))
    shapes = [
        f"{k} {tuple(state[k].shape)} for {tuple(v.shape)}"
        for k, v in wanted.items()
        if k in state and state[k].shape != v.shape
    ]
    if missing or extra or shapes:
        told = [
            f"{n}: {', '.join(v[:4])}{'…' if len(v) > 4 else ''}"
            for n, v in (("missing", missing), ("unexpected", extra), ("shape", shapes))
            if v
        ]
        raise WeightsError(f"{source} is for another architecture than {type(module).__name__}: {'; '.join(told)}.")
    module.load_state_dict(dict(state))


def convert(source: str | Path, target: str | Path) -> None:
    """A .pth/.pt checkpoint (weights only) to safetensors with a JSON card beside it."""
    from safetensors.torch import save_file

    source, target = Path(source), Path(target)
    if target.suffix != ".safetensors":
        raise WeightsError(f"{target}: the target must end in .safetensors.")
    if not source.is_file():
        raise WeightsError(f"{source} does not exist.")
    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(f"{source} does not hold plain tensors, or is damaged: {error}") from error
    for key in ("state_dict", "params_ema", "params", "model"):
        state = state[key] if isinstance(state, dict) and isinstance(state.get(key), dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise WeightsError(f"{source} is not a mapping of names to tensors.")
    save_file({k: v.contiguous().clone() for k, v in state.items()}, str(target))
    card = {"converted_from": source.name, "source_sha256": file_digest(source), "sha256": file_digest(target)}
    target.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n")


def file_digest(path: Path) -> str:
    """sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
