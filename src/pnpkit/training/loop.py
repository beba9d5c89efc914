"""The training loop: one process or many, killed at any time, continued exactly."""

import itertools
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from pnpkit.errors import DataError, DivergedError, PnpkitError
from pnpkit.training.data import Pool
from pnpkit.training.denoising import trimmed
from pnpkit.training.objectives import Objective, objective_of
from pnpkit.training.processes import Processes
from pnpkit.training.recipe import OptimiserOptions, Recipe
from pnpkit.training.run import Run
from pnpkit.training.sources import Source

Report = Callable[[str], None]
Bar = Callable[[int, float, float], object]


class OutOfMemory(PnpkitError, MemoryError):
    """A step did not fit into memory."""


def rate_at(options: OptimiserOptions, k: int) -> float:
    """The learning rate of step k: warm-up, constant, linear to zero (a trapezoid; Hägele et al. 2024)."""
    rise = min(1.0, (k + 1) / options.warmup)
    fall = min(1.0, (options.steps - k) / max(1.0, options.decay * options.steps))
    return options.rate * rise * fall


class Draws(Dataset[Any]):
    """Batch k of a training: this process's share of its samples."""

    def __init__(self, objective: Objective, pool: Pool, options: OptimiserOptions, processes: Processes):
        self.objective, self.pool, self.options = objective, pool, options
        self.share, self.first = processes.share(options.batch)

    def __getitem__(self, k: int) -> Any:
        return self.objective.draw(self.pool, k * self.options.batch + self.first, self.share)

    def from_step(self, k: int) -> Iterable[Any]:
        """Batches k, k + 1, …, drawn ahead by ``workers`` processes."""
        if not self.options.workers:
            return map(self.__getitem__, itertools.count(k))
        steps = range(k, max(self.options.steps, k + 1))
        return DataLoader(self, batch_size=None, sampler=steps, num_workers=self.options.workers)


class Trainer:
    """State of a training: model, its running mean, optimiser, step. ``advance`` makes one step."""

    def __init__(self, recipe: Recipe, pool: Pool, device: torch.device, processes: Processes):
        self.recipe, self.pool, self.device, self.processes = recipe, pool, device, processes
        self.objective = objective_of(recipe)
        self.model: nn.Module = self.objective.build().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.mean: nn.Module = self.objective.build().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.mean.requires_grad_(False)
        options = recipe.optimiser
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(),
            lr=options.rate,
            betas=(0.9, 0.99),
            weight_decay=options.weight_decay,
            fused=True,
        )
        self.bodies = self.objective.bodies(self.model, device)
        self.step = 0
        self._batches: Iterator[Any] | None = None

    def advance(self) -> torch.Tensor:
        """One step; the mean error of its samples (the objective's)."""
        options, k = self.recipe.optimiser, self.step
        if self._batches is None:
            self._batches = iter(Draws(self.objective, self.pool, options, self.processes).from_step(k))
        batch = self.objective.moved(next(self._batches), self.device)
        value, error = self.objective.loss(self.model, self.bodies, batch)
        value.backward()
        self.processes.average(self.model.parameters())
        nn.utils.clip_grad_norm_(self.model.parameters(), options.clip)
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(options, k)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self._follow(options)
        self.step += 1
        return error.mean()

    @torch.no_grad()
    def _follow(self, options: OptimiserOptions) -> None:
        """The running mean of the weights, with a half-life of at most a twentieth of the samples so far (EDM)."""
        half_life = min(options.half_life, 0.05 * (self.step + 1) * options.batch)
        keep = 0.5 ** (options.batch / half_life)
        for slow, fast in zip(self.mean.parameters(), self.model.parameters(), strict=True):
            slow.lerp_(fast, 1 - keep)

    @torch.no_grad()
    def towards_start(self, share: float) -> None:
        """The running mean moved towards the weights that training began with."""
        first = self.objective.build().to(self.device)
        for slow, start in zip(self.mean.parameters(), first.parameters(), strict=True):
            slow.lerp_(start, share)

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "mean": self.mean.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.mean.load_state_dict(state["mean"])
        self.optimiser.load_state_dict(state["optimiser"])


def train(
    recipe: Recipe,
    folder: str | Path,
    device: str | torch.device = "cpu",
    report: Report = print,
    every_seconds: float = 300.0,
    progress: bool = False,
) -> Path:
    """Train, or go on where ``folder`` got to; returns the weights file, written at the end.

    A run killed at any time goes on from its last checkpoint (every ``every_seconds``, kept whole by renaming) with
    the very steps it would have made. With more ``steps`` than before, it goes on from the checkpoint before the
    learning rate fell.
    """
    processes, device = Processes.join(torch.device(device)), torch.device(device)
    pool = _pool(recipe, recipe.data, recipe.image.augment)
    report(f"{len(pool.images)} images, {len(pool.skipped)} left out" if pool.images else "images made on the fly")
    for line in pool.skipped[:5]:
        report(f"  left out: {line}")
    held_out = _validation_images(recipe).to(device)
    trainer = Trainer(recipe, pool, device, processes)
    if native := sum(getattr(m, "native_code", False) for m in trainer.model.modules()):
        report(f"{native} convolutions in C++")
    run = Run(Path(folder), recipe, leader=processes.leader)
    if state := run.resume(recipe.optimiser):
        trainer.restore(state)
        report(f"going on after step {trainer.step} of {recipe.optimiser.steps}")
    with run.bar(recipe.optimiser.steps, enabled=progress and processes.leader) as bar:
        _steps(trainer, run, held_out, bar, report, every_seconds)
    if recipe.optimiser.keep_start:
        trainer.towards_start(recipe.optimiser.keep_start)
        values = trainer.objective.scores(trainer.mean.eval(), held_out)
        run.log(trainer.step, {"psnr": values, "keep_start": recipe.optimiser.keep_start})
        report("with the start's share: " + "  ".join(f"{s}: {v:.2f} dB" for s, v in values.items()))
    weights = run.finish(trainer.objective, trainer.mean, trainer.step)
    processes.leave()
    return weights


def _steps(trainer: Trainer, run: Run, held_out: torch.Tensor, bar: Bar, report: Report, every_seconds: float) -> None:
    recipe, options = trainer.recipe, trainer.recipe.optimiser
    clock, saved = Clock(trainer.step), time.monotonic()
    while trainer.step < options.steps:
        try:
            error = trainer.advance()
        except RuntimeError as reason:
            if _out_of_memory(reason):
                raise OutOfMemory(
                    f"A batch of {options.batch} crops of {recipe.image.crop} does not fit into memory; lower "
                    "optimiser.batch, image.crop or network.widths. The last checkpoint is kept in "
                    f"{run.checkpoint}."
                ) from reason
            raise
        k = trainer.step
        last = k == options.steps
        if k % options.log_every == 0 or last:
            value = _finite(float(trainer.processes.mean(error)), k, run)
            speed = clock.speed(k) * options.batch
            run.log(k, {"loss": value, "samples_per_second": speed, "rate": rate_at(options, k - 1)})
            bar(k, value, speed)
        if (k % recipe.validation.every == 0 or last) and trainer.processes.leader:
            values = trainer.objective.scores(trainer.mean.eval(), held_out)
            run.log(k, {"psnr": values})
            report(f"step {k}: " + "  ".join(f"{s}: {v:.2f} dB" for s, v in values.items()))
            clock = Clock(k)
        # Only where the loss was just seen to be finite: a checkpoint is always good to go on from.
        if last or (k % options.log_every == 0 and time.monotonic() - saved > every_seconds):
            run.save(trainer.state(), options)
            saved = time.monotonic()


class Clock:
    """Steps a second since the last look."""

    def __init__(self, step: int):
        self.step, self.time = step, time.monotonic()

    def speed(self, step: int) -> float:
        now = time.monotonic()
        value = (step - self.step) / max(now - self.time, 1e-9)
        self.step, self.time = step, now
        return value


def _finite(loss: float, step: int, run: Run) -> float:
    if not math.isfinite(loss):
        raise DivergedError(
            f"The loss is {loss} at step {step}. The last checkpoint, {run.checkpoint}, is from before; lower "
            "optimiser.rate or optimiser.clip, and start again in another folder.",
            step=step,
        )
    return loss


def _pool(recipe: Recipe, sources: Sequence[Source], augment: bool) -> Pool:
    image = recipe.image
    channels = 1 if image.complex else image.channels  # what the files hold; complex samples become two channels
    contrast = image.contrast if augment else 0.0
    return Pool(sources, channels, image.crop, augment, image.phase, image.strict, contrast)


def _validation_images(recipe: Recipe) -> torch.Tensor:
    options = recipe.validation
    pool = _pool(recipe, options.data, augment=False)
    images = trimmed(pool.centres(options.images, options.size), 2 ** (len(recipe.network.widths) - 1))
    if 0 in images.shape:
        raise DataError(f"The validation images {tuple(images.shape)} are too small for the network.")
    return images


def _out_of_memory(reason: Exception) -> bool:
    told = str(reason)
    return isinstance(reason, torch.OutOfMemoryError) or "can't allocate memory" in told or "out of memory" in told


def device_from_environment() -> torch.device:
    """CUDA when there is one, each local process its own."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")
