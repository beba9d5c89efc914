"""A config of ``pnpkit solve`` as a folder that pnpkit-infer reads: JSON, arrays, weights."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pnpkit import __version__, native
from pnpkit.composition import compose
from pnpkit.errors import CapabilityError
from pnpkit.priors.weights import file_digest, find
from pnpkit.solve_config import read_config
from pnpkit.spec import encode

PRIORS = ("diff_unfolding", "unet")


def export(config: Path, out: Path) -> list[str]:
    """Write ``out``/config.json, its arrays and weights, and package.json with their sha256; lines that say what.

    CapabilityError where pnpkit-infer has no twin of a part: made arrays are written out, so makers are no hindrance.
    """
    settings = read_config(config)
    seed = settings.pop("seed", 0)
    if settings.pop("scale", None) is not None:
        raise CapabilityError(f"{config}: 'scale' has no counterpart in pnpkit-infer; scale the measurement itself.")
    made = compose(**settings)
    parts, tensors = encode({"operator": made.operator, "noise": made.likelihood, "prior": made.prior})
    prior = parts["prior"] or {}
    if prior.get("name") not in PRIORS:
        raise CapabilityError(f"{config}: pnpkit-infer runs the priors {', '.join(PRIORS)}, not {prior.get('name')}.")
    out.mkdir(parents=True, exist_ok=True)
    weights = out / f"{Path(prior['weights']).stem}.safetensors"
    shutil.copyfile(find(prior["weights"]), weights)
    written = {
        "operator": _with_files(parts["operator"], tensors, out, "operator"),
        "noise": _with_files(parts["noise"], tensors, out, "noise"),
        "prior": {"name": prior["name"], "weights": weights.name},
        "solver": {k: v for k, v in encode(made.solver)[0].items() if v is not None},
        "seed": seed,
    }
    (out / "config.json").write_text(json.dumps(written, indent=1) + "\n")
    files = sorted(p for p in out.iterdir() if p.name != "package.json")
    about = {"pnpkit": __version__, "torch": torch.__version__, "sources": native.key()}
    about["sha256"] = {p.name: file_digest(p) for p in files}
    (out / "package.json").write_text(json.dumps(about, indent=1) + "\n")
    return [f"wrote {p}" for p in (*files, out / "package.json")]


def _with_files(value: Any, tensors: dict[str, torch.Tensor], out: Path, name: str) -> Any:
    """Tensors as numbers where they are single ones, else as files."""
    if not isinstance(value, dict):
        return value
    if set(value) == {"sha256"}:
        tensor = tensors[value["sha256"]]
        if tensor.ndim == 0:
            return float(tensor)
        np.save(out / f"{name}.npy", tensor.resolve_conj().cpu().numpy())
        return {"file": f"{name}.npy"}
    return {k: _with_files(v, tensors, out, f"{name}_{k}") for k, v in value.items()}
