"""Packages: what pnpkit-infer and C++ programs need of a prior, or of a whole config, without Python."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from pnpkit import __version__, registry
from pnpkit.composition import compose
from pnpkit.errors import CapabilityError, SpecError
from pnpkit.native_package.compiled import Dtype, Size, compile_network
from pnpkit.priors.base import Denoiser
from pnpkit.priors.packaged import FILE, FORMAT
from pnpkit.priors.weights import file_digest, find, metadata
from pnpkit.solve_config import read_config
from pnpkit.spec import encode

READ = {"pnpkit-unet-1": "unet", "pnpkit-unfolding-1": "diff_unfolding"}  # weights that C++ reads: of these priors


def export(model: str, out: Path, dtype: Dtype = "fp32", sizes: Sequence[Size | None] = (None,)) -> list[str]:
    """Write the folder ``out``: a network, and package.json with its description and sha256; lines that say what.

    Parameters
    ----------
    model : a prior (the name of shipped weights, a .safetensors file of ``pnpkit train``, or the JSON of a spec), or a
        config of ``pnpkit solve`` (YAML), whose operator, noise and solver are then written too, as config.json and
        arrays; what makers make is written out.
    dtype : arithmetic of the network's convolutions.
    sizes : (height, width) that the network is compiled for, None for any. Diff-Unfolding and the U-Nets of ``pnpkit
        train`` are not compiled: the C++ backend reads their weights, for every size.

    CapabilityError for what pnpkit-infer does not have: other priors than denoisers and Diff-Unfolding, a ``scale``. It
    refuses operators and solvers without a twin itself.
    """
    if Path(model).suffix not in (".yaml", ".yml"):
        prior = registry.prior(_spec(model))
        return _report(_write_prior(prior, out, dtype, sizes), sizes)
    settings = read_config(Path(model))
    seed = settings.pop("seed", 0)
    if settings.pop("scale", None) is not None:
        raise CapabilityError(f"{model}: 'scale' has no counterpart in pnpkit-infer; scale the measurement itself.")
    made = compose(**settings)
    files = _write_prior(made.prior, out, dtype, sizes)
    return _report([*_write_config(made, seed, out), *files], sizes)


def read_dtype(text: str) -> Dtype:
    """ "fp32" or "bf16"; SpecError for anything else."""
    if text not in get_args(Dtype):
        raise SpecError(f"dtype must be fp32 or bf16, given {text!r}.")
    return text  # type: ignore[return-value]


def read_size(text: str) -> Size | None:
    """ "256x320" as (256, 320), "dynamic" as None; SpecError for anything else."""
    if text == "dynamic":
        return None
    if not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", text):
        raise SpecError(f"A shape is HEIGHTxWIDTH in pixels, as 256x256, or 'dynamic'; given {text!r}.")
    height, width = text.split("x")
    return int(height), int(width)


def _spec(model: str) -> Any:
    if model.endswith(".safetensors"):
        form = metadata(model).get("format", "")
        if form not in READ:
            raise SpecError(
                f'{model} does not say which prior it is for; give a spec: \'{{"name": …, "weights": …}}\'.'
            )
        return {"name": READ[form], "weights": model}
    if not model.lstrip().startswith("{"):
        return model
    try:
        return json.loads(model)
    except ValueError as error:
        raise SpecError(f"{model} is not JSON: {error}.") from error


def _write_prior(prior: Any, out: Path, dtype: Dtype, sizes: Sequence[Size | None]) -> list[Path]:
    """The network's files and package.json."""
    spec = encode(prior)[0] or {}
    out.mkdir(parents=True, exist_ok=True)
    if spec.get("name") in READ.values() and _is_read(spec["weights"]):
        weights = find(spec["weights"])
        files = [out / f"{weights.stem}.safetensors"]
        shutil.copyfile(weights, files[0])
        network = {"file": files[0].name, "dtype": dtype}
    elif isinstance(prior, Denoiser):
        network = compile_network(prior, out, dtype, sizes)
        files = [out / code["file"] for code in network["compiled"]]
    else:
        raise CapabilityError(
            f"pnpkit-infer runs denoisers, and Diff-Unfolding without attention; {spec.get('name')} is neither."
        )
    about = {
        "format": FORMAT, "pnpkit": __version__, "prior": spec, "network": network,
        "sha256": {f.name: file_digest(f) for f in files},
    }  # fmt: skip
    (out / FILE).write_text(json.dumps(about, indent=1) + "\n")
    return [*files, out / FILE]


def _is_read(weights: str) -> bool:
    """Whether C++ builds the network from its weights."""
    told = json.loads(metadata(weights)["network"])
    unet = told.get("unet", told)
    return not (unet.get("attention") or unet.get("classes"))


def _write_config(made: Any, seed: int, out: Path) -> list[Path]:
    """config.json, and the tensors that it names as arrays."""
    parts, tensors = encode({"operator": made.operator, "noise": made.likelihood})
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
        "prior": {"package": "."},
        "solver": {k: v for k, v in encode(made.solver)[0].items() if v is not None},
        "seed": seed,
    }
    (out / "config.json").write_text(json.dumps(written, indent=1) + "\n")
    return [out / "config.json", *arrays]


def _report(files: list[Path], sizes: Sequence[Size | None]) -> list[str]:
    lines = [f"wrote {f}" for f in files]
    if any(sizes) and not any(f.suffix == ".pt2" for f in files):
        lines.append("Nothing was compiled: the C++ backend reads these weights, for images of every size.")
    return lines
