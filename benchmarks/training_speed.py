"""Samples a second of a training step, beside the machine's arithmetic: python benchmarks/training_speed.py

The network of photos_gray on 64×64 crops, batch 32: eager float32 in torch's own layout, then in channels-last (which
``pnpkit train`` always takes) eager and compiled, float32 and bf16, and with the C++ backend's convolutions (its
default where they are built). The floor is the network's multiplications at the speed of one direct convolution alone.
"""

import time
from typing import NamedTuple

import torch
from timing import write_report
from torch import nn

from pnpkit.priors.networks.unet import UNet
from pnpkit.training.loop import Trainer
from pnpkit.training.processes import Processes
from pnpkit.training.recipe import read_recipe

BATCH, SIDE, REPEATS = 32, 64, 12


class Mode(NamedTuple):
    name: str
    compile: bool = False
    bf16: bool = False
    backend: str = "python"
    channels_last: bool = True


MODES = (
    Mode("eager, float32, torch's layout", channels_last=False),
    Mode("eager, float32"),
    Mode("eager, bf16", bf16=True),
    Mode("compiled, float32", compile=True),
    Mode("compiled, bf16", compile=True, bf16=True),
    Mode("eager, float32, C++ convolutions", backend="native"),
    Mode("compiled, float32, C++ convolutions", compile=True, backend="native"),
    Mode("compiled, bf16, C++ convolutions", compile=True, bf16=True, backend="native"),
)


class Blank:
    """A pool without pictures: crops of noise, so that no data folder is needed."""

    def sample(self, seed: int, i: int) -> tuple[torch.Tensor, torch.Generator]:
        rng = torch.Generator().manual_seed(i)
        return torch.rand(1, SIDE, SIDE, generator=rng), rng


def seconds_a_step(mode: Mode) -> float:
    """Median over steps after two to warm up."""
    options = {"compile": mode.compile, "bf16": mode.bf16, "backend": mode.backend, "batch": BATCH}
    recipe = read_recipe("photos_gray").with_options(**options)
    trainer = Trainer(recipe, Blank(), torch.device("cpu"), Processes())  # type: ignore[arg-type]
    if not mode.channels_last:
        trainer.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        trainer.bodies = [trainer.model.network]
    times = []
    for _ in range(REPEATS + 2):
        began = time.perf_counter()
        trainer.advance()
        times.append(time.perf_counter() - began)
    return sorted(times[2:])[REPEATS // 2]


def multiplications() -> float:
    """Of one forward pass of one crop, convolutions only."""
    recipe = read_recipe("photos_gray")
    network, total = UNet(1, recipe.network.widths, recipe.network.blocks), [0.0]

    def add(module: nn.Module, inputs: tuple, out: torch.Tensor) -> None:
        w = module.weight  # type: ignore[union-attr]
        pixels = inputs[0].shape[-1] ** 2 if isinstance(module, nn.ConvTranspose2d) else out.shape[-1] ** 2
        total[0] += w.numel() * pixels

    for m in network.modules():
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d):
            m.register_forward_hook(add)
    with torch.no_grad():
        network(torch.rand(1, 1, SIDE, SIDE), network.embedding(torch.zeros(1)))
    return total[0]


def peak(dtype: torch.dtype) -> float:
    """Multiplications a second of a 96-channel 3×3 convolution on channels-last data."""
    conv = nn.Conv2d(96, 96, 3, padding=1).to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.rand(BATCH, 96, 64, 64, dtype=dtype).contiguous(memory_format=torch.channels_last)
    times = []
    with torch.no_grad():
        for _ in range(12):
            began = time.perf_counter()
            conv(x)
            times.append(time.perf_counter() - began)
    return conv.weight.numel() * x.numel() / 96 / sorted(times)[6]


def main() -> None:
    torch.set_num_threads(4)
    work = 3 * multiplications() * BATCH  # forward, and twice as much backward
    rows = []
    slowest = None
    for mode in MODES:
        seconds = seconds_a_step(mode)
        slowest = slowest or seconds
        floor = work / peak(torch.bfloat16 if mode.bf16 else torch.float32)
        rows.append(
            {
                "mode": mode.name,
                "samples / s": f"{BATCH / seconds:.0f}",
                "× the first": f"{slowest / seconds:.2f}",
                "limit of direct convolutions": f"{BATCH / floor:.0f}",
                "of the limit": f"{100 * floor / seconds:.0f} %",
            }
        )
        print(rows[-1], flush=True)
    notes = [
        f"{sum(p.numel() for p in UNet(1, (48, 96, 176, 208), 2).parameters()) / 1e6:.2f} M parameters, "
        f"{multiplications() / 1e9:.2f} G multiplications a forward pass of {SIDE}²; batch {BATCH}, four threads, "
        f"medians of {REPEATS} steps, data and optimiser included.",
        "The limit counts convolutions only, at the measured speed of a direct 96-channel 3×3 convolution in that "
        "precision; Winograd's algorithm, which the C++ convolutions use, has a quarter of the multiplications.",
    ]
    write_report("training_speed", rows, "python benchmarks/training_speed.py", notes)


if __name__ == "__main__":
    main()
