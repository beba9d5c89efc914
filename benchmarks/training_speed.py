"""Samples a second of a training step, beside the machine's arithmetic: python benchmarks/training_speed.py

The network of photos_gray on 64×64 crops, batch 32: eager float32 in torch's own layout, then in channels-last (which
``pnpkit train`` always takes) eager and compiled, float32 and bf16 (its default). The floor is the network's
multiplications at the speed of its largest convolution alone.
"""

import time

import torch
from timing import write_report
from torch import nn

from pnpkit.priors.networks.unet import UNet
from pnpkit.training.loop import Trainer
from pnpkit.training.processes import Processes
from pnpkit.training.recipe import read_recipe

BATCH, SIDE, REPEATS = 32, 64, 12


class Blank:
    """A pool without pictures: crops of noise, so that no data folder is needed."""

    def sample(self, seed: int, i: int) -> tuple[torch.Tensor, torch.Generator]:
        rng = torch.Generator().manual_seed(i)
        return torch.rand(1, SIDE, SIDE, generator=rng), rng


def seconds_a_step(compile: bool, bf16: bool, channels_last: bool = True) -> float:
    """Median over steps after two to warm up."""
    recipe = read_recipe("photos_gray").with_options(compile=compile, bf16=bf16, batch=BATCH)
    trainer = Trainer(recipe, Blank(), torch.device("cpu"), Processes())  # type: ignore[arg-type]
    if not channels_last:
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
    modes = ((False, False, False), (False, False, True), (False, True, True), (True, False, True), (True, True, True))
    for compile, bf16, channels_last in modes:
        seconds = seconds_a_step(compile, bf16, channels_last)
        slowest = slowest or seconds
        floor = work / peak(torch.bfloat16 if bf16 else torch.float32)
        rows.append(
            {
                "mode": f"{'compiled' if compile else 'eager'}, {'bf16' if bf16 else 'float32'}"
                + ("" if channels_last else ", torch's layout"),
                "samples / s": f"{BATCH / seconds:.0f}",
                "× the first": f"{slowest / seconds:.2f}",
                "arithmetic limit, samples / s": f"{BATCH / floor:.0f}",
                "of the limit": f"{100 * floor / seconds:.0f} %",
            }
        )
        print(rows[-1], flush=True)
    notes = [
        f"{sum(p.numel() for p in UNet(1, (48, 96, 176, 208), 2).parameters()) / 1e6:.2f} M parameters, "
        f"{multiplications() / 1e9:.2f} G multiplications a forward pass of {SIDE}²; batch {BATCH}, four threads, "
        f"medians of {REPEATS} steps, data and optimiser included.",
        "A step's time is 83 % convolutions (profiler): 65 ms forward and 180 ms backward, where twice the "
        "forward would be 130; bf16 convolutions are 2.0 times as fast as float32 ones on this processor, so 2.5 × is "
        "out of reach.",
        "The limit counts convolutions only, at the measured speed of a 96-channel 3×3 convolution in that precision.",
    ]
    write_report("training_speed", rows, "python benchmarks/training_speed.py", notes)


if __name__ == "__main__":
    main()
