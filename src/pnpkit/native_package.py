"""A config of ``pnpkit solve`` as a folder that pnpkit-infer reads: JSON, arrays, weights."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pnpkit import __version__
from pnpkit.composition import compose
from pnpkit.errors import CapabilityError
from pnpkit.priors.weights import file_digest, find
from pnpkit.solve_config import read_config
from pnpkit.spec import encode

PRIORS = ("diff_unfolding", "unet")


def export(config: Path, out: Path) -> list[str]:
    """Write ``out``/config.json, its arrays and weights, and package.json with their sha256; lines that say what.

    What makers make is written out. CapabilityError for a prior or a ``scale`` that pnpkit-infer does not have; it
    refuses operators and solvers without a twin itself.
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
    arrays: list[Path] = []

    def with_files(value: Any, name: str) -> Any:
        """Tensors as numbers where they are single ones, else as files."""
        if not isinstance(value, dict):
            return value
        if set(value) != {"sha256"}:
            return {k: with_files(v, f"{name}_{k}") for k, v in value.items()}
        tensor = tensors[value["sha256"]]
        if tensor.ndim == 0:
            return float(tensor)
        arrays.append(out / f"{name}.npy")
        np.save(arrays[-1], tensor.resolve_conj().cpu().numpy())
        return {"file": arrays[-1].name}

    written = {
        "operator": with_files(parts["operator"], "operator"),
        "noise": with_files(parts["noise"], "noise"),
        "prior": {"name": prior["name"], "weights": weights.name},
        "solver": {k: v for k, v in encode(made.solver)[0].items() if v is not None},
        "seed": seed,
    }
    config_file = out / "config.json"
    config_file.write_text(json.dumps(written, indent=1) + "\n")
    files = [config_file, *arrays, weights]
    about = {"pnpkit": __version__, "torch": torch.__version__, "sha256": {p.name: file_digest(p) for p in files}}
    (out / "package.json").write_text(json.dumps(about, indent=1) + "\n")
    return [f"wrote {p}" for p in (*files, out / "package.json")]
