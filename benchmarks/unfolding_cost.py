"""Seconds of Diff-Unfolding for a 256×256 image: python benchmarks/unfolding_cost.py

The posterior mean (one step, three network calls) of a motion-blurred image at the size of ``unfold_photos`` and at the
size that the paper states (47 M parameters, untrained weights): eager and compiled, float32 and bfloat16. The floor is
the network's multiplications at the speed of a convolution measured in the same run.
"""

import torch
from timing import compare, write_report
from torch import nn

import pnpkit as pk
from pnpkit.operators import Blur
from pnpkit.priors.unfolding.network import UnfoldingNetwork
from pnpkit.problem import Problem
from pnpkit.training.objectives import objective_of
from pnpkit.training.recipe import read_recipe

SIDE, THREADS, SIGMA = 256, 4, 10.0
REPEATS = {"unfold_photos": 11, "unfold_paper_size": 3}


def network(recipe: str) -> UnfoldingNetwork:
    plan = read_recipe(recipe).model_copy(update={"start": None})
    model = objective_of(plan).build()
    assert isinstance(model, UnfoldingNetwork)
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def problem() -> Problem:
    operator = Blur(kernel=pk.make("motion_kernel", size=25, seed=3), shape=(1, SIDE, SIDE))
    x = torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return Problem(operator, pk.Gaussian(0.02), operator(x))


def multiplications(model: UnfoldingNetwork, x: torch.Tensor, task: Problem) -> float:
    """Of one posterior mean, convolutions only."""
    total = [0.0]

    def add(module: nn.Module, inputs: tuple, out: torch.Tensor) -> None:
        size = inputs[0].shape if isinstance(module, nn.ConvTranspose2d) else out.shape
        total[0] += module.weight.numel() * size[-1] * size[-2]  # type: ignore[operator,union-attr]

    hooks = [m.register_forward_hook(add) for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    model(x, torch.full((1,), SIGMA), task)
    for hook in hooks:
        hook.remove()
    return total[0]


def peak(dtype: torch.dtype) -> float:
    """Multiplications a second: the best of two 3×3 convolutions on channels-last data."""
    best = 0.0
    for width, side in ((96, 128), (256, 64)):
        conv = nn.Conv2d(width, width, 3, padding=1, bias=False).to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = torch.rand(4, width, side, side, dtype=dtype).contiguous(memory_format=torch.channels_last)
        seconds = compare({"conv": lambda conv=conv, x=x: conv(x)}, repeats=21, threads=THREADS)["conv"]
        best = max(best, conv.weight.numel() * x.numel() / width / seconds)
    return best


def variant(model: UnfoldingNetwork, x: torch.Tensor, task: Problem, compiled: bool, bf16: bool):
    inner = torch.compile(model.blocks[0].network) if compiled else model.blocks[0].network

    def body(z: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return inner(z.contiguous(memory_format=torch.channels_last), embedding)

    return lambda: model(x, torch.full((1,), SIGMA), task, [body])[-1]


def main() -> None:
    torch.set_num_threads(THREADS)
    torch._inductor.config.freezing = True  # type: ignore[attr-defined]
    x, task = torch.rand(1, 1, SIDE, SIDE), problem()
    speeds = {bf16: peak(torch.bfloat16 if bf16 else torch.float32) for bf16 in (False, True)}
    rows = []
    for recipe, repeats in REPEATS.items():
        model = network(recipe)
        size = sum(p.numel() for n, p in model.named_parameters() if not n.startswith("expected."))
        with torch.no_grad():
            work = multiplications(model, x, task)
            modes = {
                f"{'compiled' if c else 'eager'}, {'bfloat16' if b else 'float32'}": (c, b)
                for c, b in ((False, False), (True, False), (True, True))
            }
            times = compare({m: variant(model, x, task, *o) for m, o in modes.items()}, repeats, THREADS)
        for mode, seconds in times.items():
            floor = work / speeds[modes[mode][1]]
            row = {"network": recipe, "parameters": f"{size / 1e6:.1f} M", "G multiplications": f"{work / 1e9:.0f}"}
            row |= {
                "mode": mode,
                "seconds": f"{seconds:.3f}",
                "floor": f"{floor:.3f}",
                "of the floor": f"{floor / seconds:.0%}",
            }
            rows.append(row | {"× eager float32": f"{times['eager, float32'] / seconds:.2f}"})
            print(rows[-1], flush=True)
    notes = [
        f"One image {SIDE}×{SIDE}, K = 3 stages, {THREADS} threads, medians of 11 and 3; compiled with freezing. The "
        f"floor counts convolutions only, at {speeds[False] / 1e9:.0f} (float32) and {speeds[True] / 1e9:.0f} (bf16) "
        "G multiplications a second, measured in this run.",
        "The paper states 0.72 s per 256×256 image for its 47 M parameters on an unnamed device, steps unknown.",
    ]
    write_report("unfolding_cost", rows, "python benchmarks/unfolding_cost.py", notes, "Diff-Unfolding: seconds")


if __name__ == "__main__":
    main()
