"""Checkpoints of a running solve: state, generator and recorded values, written atomically."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pnpkit import spec
from pnpkit.errors import DataError
from pnpkit.solvers.result import pack, unpack


class Checkpoint:
    """A file that belongs to one run: one problem, prior, solver, seed and start.

    Loading refuses a file of another run, so a stale checkpoint can never leak into a result.
    """

    def __init__(self, path: str | Path, problem: Any, prior: Any, solver: Any, seed: int, x0: torch.Tensor | None):
        self.path = Path(path)
        run = [problem.operator, problem.likelihood, prior, problem.y, x0]
        settings = spec.encode(solver)[0]
        settings.pop("n_steps", None)  # a run may be continued for longer
        self.run = spec.json_digest([spec.encode(part)[0] for part in run] + [settings, seed])

    def write(self, k: int, state: Any, rng: torch.Generator, infos: list[dict[str, torch.Tensor]]) -> None:
        """Replace the file in one step: a kill leaves the old one or the new one."""
        from safetensors.torch import save_file

        tensors: dict[str, torch.Tensor] = {"rng": rng.get_state()}
        skeleton = {"state": _flatten(state, "state", tensors), "infos": _flatten(tuple(infos), "infos", tensors)}
        partial = self.path.with_suffix(self.path.suffix + ".partial")
        plain, metadata = pack(tensors, {"run": self.run, "k": k, **skeleton})
        save_file(plain, str(partial), metadata)
        os.replace(partial, self.path)

    def load(self, rng: torch.Generator, init: Callable[[], Any]) -> tuple[tuple[int, Any] | None, list]:
        """((k, state), infos) of an earlier part of this run, or (None, []) when there is no file."""
        if not self.path.is_file():
            return None, []
        tensors, header = unpack(self.path)
        if header.get("run") != self.run:
            raise DataError(
                f"{self.path} is a checkpoint of another run (other data, operator, prior, solver, seed or start). "
                "Delete it or give another checkpoint path."
            )
        template = init()  # its type only; the generator is set back right after
        fields = _unflatten(header["state"], tensors, rng.device)
        rng.set_state(tensors["rng"])
        return (header["k"], type(template)(*fields)), list(_unflatten(header["infos"], tensors, "cpu"))


def _flatten(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        tensors[path] = value
        return {"tensor": path}
    if isinstance(value, dict):
        return {"dict": {k: _flatten(v, f"{path}.{k}", tensors) for k, v in value.items()}}
    if isinstance(value, tuple | list):
        return [_flatten(v, f"{path}.{i}", tensors) for i, v in enumerate(value)]
    return value


def _unflatten(value: Any, tensors: dict[str, torch.Tensor], device: Any) -> Any:
    if isinstance(value, list):
        return tuple(_unflatten(v, tensors, device) for v in value)
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]].to(device)
        return {k: _unflatten(v, tensors, device) for k, v in value["dict"].items()}
    return value
