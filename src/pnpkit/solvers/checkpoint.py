"""Checkpoints of a running solve: the last step, the generator and the recorded values, written atomically."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pnpkit import spec
from pnpkit.errors import DataError
from pnpkit.solvers.base import Info, Step
from pnpkit.solvers.result import pack, stacked, unpack

FORMAT = 3


class Checkpoint:
    """A file that belongs to one run: one problem, prior, solver, seed and start.

    Loading refuses a file of another run, so a stale checkpoint can never leak into a result. A run may be continued
    for more steps than it was started with, unless its solver is ``scheduled``.
    """

    def __init__(self, path: str | Path, problem: Any, prior: Any, solver: Any, seed: int, x0: torch.Tensor | None):
        self.path = Path(path)
        if not self.path.absolute().parent.is_dir():
            raise DataError(
                f"The folder {self.path.absolute().parent} of the checkpoint does not exist; make it first."
            )
        run = [problem.operator, problem.likelihood, prior, problem.y, x0]
        settings = spec.encode(solver)[0]
        if not solver.scheduled:
            settings.pop("n_steps", None)
        self.run = spec.json_digest([spec.encode(part)[0] for part in run] + [settings, seed, FORMAT])

    def write(self, step: Step, random: torch.Tensor, infos: list[Info], draws: list[dict[str, torch.Tensor]]) -> None:
        """Replace the file in one go: a kill leaves the old one or the new one.

        random : state of the generator after ``step``. infos, draws : what all steps so far have
        recorded and left.
        """
        from safetensors.torch import save_file

        tensors = {f"info.{name}": values for name, values in stacked(infos).items()} | {"random": random}
        tensors |= {f"draws.{i}.{name}": value for i, draw in enumerate(draws) for name, value in draw.items()}
        kept = step._replace(info={}, x=None if step.x is step.state.x else step.x)  # type: ignore[arg-type]
        skeleton = _flatten(tuple(kept), "step", tensors)
        partial = self.path.with_suffix(self.path.suffix + ".partial")
        plain, metadata = pack(
            tensors, {"run": self.run, "recorded": len(infos), "draws": len(draws), "step": skeleton}
        )
        save_file(plain, str(partial), metadata)
        os.replace(partial, self.path)

    def load(
        self, rng: torch.Generator, init: Callable[[], Any]
    ) -> tuple[Step | None, list[Info], list[dict[str, torch.Tensor]]]:
        """The last step of an earlier part of this run, what was recorded and drawn; (None, [], []) without a file.

        Sets ``rng`` to where that part left it. init : makes a state, for its types only.
        """
        if not self.path.is_file():
            return None, [], []
        tensors, header = unpack(self.path)
        if header.get("run") != self.run:
            raise DataError(
                f"{self.path} is a checkpoint of another run (other data, operator, prior, solver, seed, start or "
                "version). Delete it or give another checkpoint path."
            )
        template = init()
        rng.set_state(tensors["random"])
        step = Step(*_unflatten(header["step"], tensors, rng.device))
        state = _typed(template, step.state)
        step = step._replace(state=state, x=state.x if step.x is None else step.x)
        names = [n for n in tensors if n.startswith("info.")]
        infos = [{n.removeprefix("info."): tensors[n][k] for n in names} for k in range(header["recorded"])]
        draws: list[dict[str, torch.Tensor]] = [{} for _ in range(header["draws"])]
        for key in (k for k in tensors if k.startswith("draws.")):
            _, i, name = key.split(".")
            draws[int(i)][name] = tensors[key].to(rng.device)
        return step, infos, draws


def _flatten(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    """The JSON form of a state; its tensors go into ``tensors`` by path."""
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


def _typed(template: Any, value: Any) -> Any:
    """Tuples become the NamedTuples, or lists, that stand in their place in ``template``."""
    if not isinstance(value, tuple) or not isinstance(template, tuple | list):
        return value
    parts = [_typed(template[i] if i < len(template) else None, v) for i, v in enumerate(value)]
    return type(template)(*parts) if hasattr(template, "_fields") else type(template)(parts)
