"""The folder of a training run: checkpoints, log, TensorBoard, progress bar, and the weights at the end."""

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pnpkit.errors import DataError, SpecError
from pnpkit.priors.weights import file_digest
from pnpkit.training.objectives import Objective
from pnpkit.training.recipe import OptimiserOptions, Recipe


class Run:
    """``folder``: recipe.json, checkpoint.pt, steady.pt (before the rate fell), log.jsonl, NAME.safetensors + .json."""

    def __init__(self, folder: Path, recipe: Recipe, leader: bool = True):
        self.folder, self.leader = folder, leader
        self.checkpoint, self.steady = folder / "checkpoint.pt", folder / "steady.pt"
        self.seconds = 0.0
        self.began = time.monotonic()
        told = folder / "recipe.json"
        if told.is_file():
            # Read as a recipe: options that came later have their defaults in earlier runs.
            before, now = Recipe(**json.loads(told.read_text())["recipe"]).kept(), recipe.kept()
            if before != now:
                changed = sorted(k for k in before | now if before.get(k) != now.get(k))
                raise SpecError(
                    f"{folder} holds a run of another recipe (different: {', '.join(changed)}); choose another folder."
                )
        if leader:
            folder.mkdir(parents=True, exist_ok=True)
            told.write_text(json.dumps({"recipe": json.loads(recipe.model_dump_json())}, indent=1))
        self._board: Any = None

    # --- checkpoints ---

    def save(self, state: dict[str, Any], options: OptimiserOptions) -> None:
        """The state, whole or not at all; also as ``steady`` while the learning rate has not begun to fall."""
        if not self.leader:
            return
        falling = state["step"] > (1 - options.decay) * options.steps
        seconds = self.seconds + time.monotonic() - self.began
        state = {**state, "seconds": seconds, "steps": options.steps, "falling": falling}
        for path in [self.checkpoint] if falling else [self.checkpoint, self.steady]:
            part = path.with_suffix(".part")
            with part.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)

    def resume(self, options: OptimiserOptions) -> dict[str, Any] | None:
        """The state to go on from, or None; forgets the log after it."""
        path = self.checkpoint if self.checkpoint.is_file() else self.steady
        if not path.is_file():
            if self.leader:
                (self.folder / "log.jsonl").unlink(missing_ok=True)
            return None
        state = _loaded(path)
        if options.steps > state["steps"] and state["falling"] and self.steady.is_file():
            state = _loaded(self.steady)
        self.seconds = state["seconds"]
        self._forget_after(state["step"])
        return state

    def _forget_after(self, step: int) -> None:
        log = self.folder / "log.jsonl"
        if self.leader and log.is_file():
            lines = [line for line in log.read_text().splitlines() if _step(line) <= step]
            log.write_text("".join(line + "\n" for line in lines))

    # --- what happens ---

    def log(self, step: int, values: dict[str, Any]) -> None:
        """A line of log.jsonl and points in TensorBoard."""
        if not self.leader:
            return
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        board = self._tensorboard()
        for name, value in values.items():
            for key, number in value.items() if isinstance(value, dict) else [("", value)]:
                if board is not None:
                    board.add_scalar(f"{name}/{key}".rstrip("/"), number, step)

    def _tensorboard(self) -> Any:
        if self._board is None:
            try:
                from torch.utils.tensorboard import SummaryWriter

                self._board = SummaryWriter(str(self.folder / "tensorboard"))
            except ImportError:
                self._board = False
        return self._board or None

    @contextmanager
    def bar(self, steps: int, enabled: bool) -> Iterator[Any]:
        """A function (step, loss, samples/s) that draws a progress bar with the time left."""
        if not enabled:
            yield lambda *_: None
            return
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        told = TextColumn(
            "{task.completed}/{task.total}  loss {task.fields[loss]:.4f}  {task.fields[speed]:.0f} samples/s"
        )
        with Progress(BarColumn(), told, TimeRemainingColumn()) as bar:
            task = bar.add_task("training", total=steps, loss=float("nan"), speed=0.0)
            yield lambda k, loss, speed: bar.update(task, completed=k, loss=loss, speed=speed)

    # --- the end ---

    def finish(self, objective: Objective, model: nn.Module, steps: int) -> Path:
        """Write the weights in half precision with what is needed to rebuild the network, and their card."""
        recipe = objective.recipe
        path = self.folder / f"{recipe.name}.safetensors"
        if not self.leader:
            return path
        form, network, tensors = objective.saved(model)
        save_weights(path, form, network, tensors)
        log = [json.loads(line) for line in (self.folder / "log.jsonl").read_text().splitlines()]
        card = {
            "name": recipe.name,
            "prior": objective.prior,
            "about": recipe.about,
            "terms": recipe.terms,
            "parameters": sum(t.numel() for t in tensors.values()),
            "sha256": file_digest(path),
            "steps": steps,
            "samples": steps * recipe.optimiser.batch,
            "seconds": round(self.seconds + time.monotonic() - self.began),
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
            "command": f"pnpkit train {recipe.name} --steps {steps}",
            "validation": [line for line in log if "psnr" in line][-1:],
            "recipe": json.loads(recipe.model_dump_json()),
        }
        path.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n")
        return path


def save_weights(path: Path, form: str, network: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """A .safetensors file in float16; its form and the architecture in its metadata."""
    from safetensors.torch import save_file

    half = {k: v.to(torch.float16).contiguous() for k, v in tensors.items()}
    save_file(half, str(path), metadata={"format": form, "network": json.dumps(network)})
    path.chmod(0o644)  # safetensors writes files that only their owner reads


def _loaded(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"The checkpoint {path} is damaged ({reason}). Delete it: the run then goes on from steady.pt, if that is "
            "there, or from the beginning."
        ) from error


def _step(line: str) -> int:
    """The step of a log line; a line cut short by a kill counts as after everything."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):
        return 2**62
