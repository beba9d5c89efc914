"""The C++ backend against eager Python, torch.compile and AOTInductor: the network, the whole sampler, memory, start.

    PNPKIT_DATA=… OMP_NUM_THREADS=4 python benchmarks/native.py [--paper] [--quick]

--paper adds the 47-million-parameter network (random weights: only its time counts), --quick takes 3 repeats.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch._inductor.config as inductor
from data import images as eval_images
from timing import compare, write_report
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from pnpkit import native, registry
from pnpkit.likelihoods import Gaussian
from pnpkit.metrics.image import psnr
from pnpkit.native_package import export
from pnpkit.operators import Blur
from pnpkit.operators.makers.kernels import gaussian_kernel
from pnpkit.priors.unfolding.network import UnfoldingNetwork
from pnpkit.priors.unfolding.trained import DiffUnfolding
from pnpkit.problem import Problem
from pnpkit.solvers.base import solve
from pnpkit.solvers.posterior_sampler import PosteriorSampler
from pnpkit.training.recipe import read_recipe
from pnpkit.training.run import save_weights

THREADS = 4
SIZE = 256
SIGMA = 0.02
VARIANTS: dict[str, dict[str, object]] = {
    "eager float32": {},
    "compiled float32": {"compiled": True},
    "compiled bfloat16": {"compiled": True, "arithmetic": "bfloat16"},
    "native float32": {"backend": "native"},
    "native bfloat16": {"backend": "native", "arithmetic": "bfloat16"},
}
inductor.freezing = True


def problem(images: torch.Tensor) -> Problem:
    op = Blur(kernel=gaussian_kernel(size=25, std=1.6), shape=tuple(images.shape[1:]))
    likelihood = Gaussian(sigma=SIGMA)
    return Problem(op, likelihood, likelihood.sample(op(images), torch.Generator().manual_seed(0)))


def convolution_peak(dtype: torch.dtype) -> float:
    """GFLOP/s of ATen's 3×3 convolutions of 128 channels at 256×256, the best of several."""
    x = torch.randn(1, 128, 256, 256).to(dtype, memory_format=torch.channels_last)
    w = torch.randn(128, 128, 3, 3).to(dtype, memory_format=torch.channels_last)
    times = compare({"conv": lambda: functional.conv2d(x, w, padding=1)}, 15, THREADS)
    return 2 * 9 * 128 * 128 * 256 * 256 / times["conv"] / 1e9


def network_rows(weights: str, repeats: int) -> tuple[list[dict], list[str]]:
    """One call of the U-Net at batch 1: what each engine makes of the arithmetic."""
    prior = DiffUnfolding(weights=weights)
    unet = prior.body.blocks[0].network
    z = torch.randn(1, unet.head.in_channels, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    e = torch.randn(1, unet.embed[0].out_features)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        unet(z, e)
    flop = counter.get_total_flops() / 1e9
    file = str(prior_file(weights))
    engines = {b: native.load().Network(file, bf16=b) for b in (False, True)}
    calls: dict[str, Callable[[], object]] = {"eager float32": lambda: unet(z, e)}
    for name, half in (("AOTInductor float32", False), ("AOTInductor bfloat16", True)):
        calls[name] = aoti(weights, z, e, half)
    for half, engine in engines.items():
        calls[f"native {'bfloat16' if half else 'float32'}"] = lambda engine=engine: engine.body(0, z, e)
    times = compare(calls, repeats, THREADS)
    peaks = {"float32": convolution_peak(torch.float32), "bfloat16": convolution_peak(torch.bfloat16)}
    rows = []
    for name, seconds in times.items():
        peak = peaks[name.split()[1]]
        rows.append(
            {
                "what": "network, one call", "variant": name, "batch": 1, "seconds": seconds,
                "times as fast": times["eager float32"] / seconds, "GFLOP/s": flop / seconds,
                "share of the convolution peak": flop / seconds / peak, "floor [s]": flop / peak,
            }
        )  # fmt: skip
    note = (
        f"{flop:.1f} GFLOP a call, counted as direct convolutions; the peak is that of ATen's (oneDNN's) 3×3 "
        f"convolution in this run: {peaks['float32']:.0f} GFLOP/s in float32, {peaks['bfloat16']:.0f} in bfloat16. "
        "Winograd's convolutions need a quarter of the products, so their share can be above 1."
    )
    return rows, [note]


def aoti(weights: str, z: torch.Tensor, e: torch.Tensor, half: bool) -> Callable[[], object]:
    """The network as an AOTInductor package, frozen."""
    unet = DiffUnfolding(weights=weights).body.blocks[0].network
    dtype = torch.bfloat16 if half else torch.float32
    unet, z, e = unet.to(dtype), z.to(dtype), e.to(dtype)
    path = Path(tempfile.mkdtemp()) / "unet.pt2"
    with torch.no_grad():
        exported = torch.export.export(unet, (z, e))
        made = torch._inductor.aoti_compile_and_package(
            exported, package_path=str(path), inductor_configs={"freezing": True}
        )
    package = torch._inductor.aoti_load_package(made)
    return lambda: package(z, e)


def sampler_rows(weights: str, batch: int, n_steps: int, repeats: int, variants: list[str], what: str) -> list[dict]:
    torch._dynamo.reset()  # frozen networks that were compiled for one batch fail at another (torch 2.15)
    images = torch.rand(batch, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    given = problem(images)
    solver = PosteriorSampler(n_steps=n_steps)
    priors = {v: DiffUnfolding(weights=weights, **VARIANTS[v]) for v in variants}  # type: ignore[arg-type]
    results = {v: solve(given, p, solver, seed=0).x for v, p in priors.items()}
    times = compare({v: lambda p=p: solve(given, p, solver, seed=0) for v, p in priors.items()}, repeats, THREADS, 1)
    return [
        {
            "what": what, "variant": v, "batch": batch, "seconds": times[v],
            "times as fast": times["eager float32"] / times[v],
            "max abs difference": float((results[v] - results["eager float32"]).abs().max()),
        }
        for v in variants
    ]  # fmt: skip


def quality_rows(n: int = 24) -> list[dict]:
    """PSNR of photographs that no weights saw, by arithmetic."""
    pictures = [x[..., :SIZE, :SIZE] for name in ("set12", "set14") for x in eval_images(name).values()]
    images = torch.cat([x for x in pictures if x.shape[-2:] == (SIZE, SIZE)][:n])
    given, solver = problem(images), PosteriorSampler(n_steps=1)

    def quality(variant: str) -> torch.Tensor:
        prior = DiffUnfolding(weights="unfold_photos", **VARIANTS[variant])  # type: ignore[arg-type]
        parts = [(given[i : i + 4], images[i : i + 4]) for i in range(0, len(images), 4)]
        return torch.cat([psnr(solve(part, prior, solver).x, truth, 1.0) for part, truth in parts])

    found = {v: quality(v) for v in ("eager float32", "native float32", "native bfloat16")}
    exact = found["eager float32"]
    return [
        {
            "what": f"{len(images)} photographs", "variant": v, "PSNR [dB]": float(p.mean()),
            "largest change [dB]": float((p - exact).abs().max()),
        }
        for v, p in found.items()
    ]  # fmt: skip


def process_rows(repeats: int) -> list[dict]:
    """Whole processes: seconds to the first image, and peak memory."""
    folder = Path(tempfile.mkdtemp())
    config = {
        "operator": {
            "name": "blur", "shape": [1, SIZE, SIZE], "kernel": {"make": "gaussian_kernel", "size": 25, "std": 1.6},
        },
        "noise": {"name": "gaussian", "sigma": SIGMA}, "solver": {"name": "posterior_sampler", "n_steps": 1},
        "prior": {"name": "diff_unfolding", "weights": "unfold_photos"},
    }  # fmt: skip
    (folder / "c.yaml").write_text(json.dumps(config))
    export(str(folder / "c.yaml"), folder / "package")
    np.save(folder / "y.npy", problem(torch.rand(1, 1, SIZE, SIZE)).y[0].numpy())
    script = (
        "import sys, torch, numpy as np; torch.set_num_threads(4)\n"
        "from pnpkit.composition import compose; import json\n"
        "c = json.load(open(sys.argv[1])); c['prior']['backend'] = sys.argv[2]\n"
        "x = compose(**c)(np.load(sys.argv[3])); np.save(sys.argv[4], x.x)\n"
    )
    inputs = [str(folder / "y.npy"), str(folder / "x.npy")]
    commands = {
        "eager Python": [sys.executable, "-c", script, str(folder / "c.yaml"), "python", *inputs],
        "Python, native backend": [sys.executable, "-c", script, str(folder / "c.yaml"), "native", *inputs],
        "pnpkit-infer float32": infer(folder, inputs, "fp32"),
        "pnpkit-infer bfloat16": infer(folder, inputs, "bf16"),
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    memory: dict[str, float] = {}
    for _ in range(repeats):
        for name, command in commands.items():
            seconds, memory[name] = peak(command)
            times[name].append(seconds)
    first = "eager Python"
    return [
        {
            "what": "process, one image", "variant": name, "seconds": float(np.median(times[name])),
            "times as fast": float(np.median(times[first]) / np.median(times[name])),
            "peak memory [MiB]": memory[name], "memory against eager": memory[name] / memory[first],
        }
        for name in commands
    ]  # fmt: skip


def infer(folder: Path, inputs: list[str], dtype: str) -> list[str]:
    files = ["--config", str(folder / "package" / "config.json"), "--input", inputs[0], "--out", inputs[1]]
    return [str(native.program()), *files, "--dtype", dtype, "--quiet", "--threads", "4"]


def peak(command: list[str]) -> tuple[float, float]:
    """Run a command: (seconds, its peak resident memory in MiB)."""
    # From a small process of its own: a child begins with its parent's peak.
    script = (
        "import os, subprocess, sys, time; began = time.perf_counter()\n"
        "p = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)\n"
        "_, status, used = os.wait4(p.pid, 0); print(status, time.perf_counter() - began, used.ru_maxrss / 1024)"
    )
    done = subprocess.run([sys.executable, "-S", "-c", script, *command], capture_output=True, text=True)
    status, seconds, memory = done.stdout.split()
    if status != "0":
        raise SystemExit(f"{command} failed: {done.stderr}")
    return float(seconds), float(memory)


def prior_file(weights: str) -> Path:
    return Path(weights) if Path(weights).is_file() else Path(registry.card(weights)["file"])


def paper_size() -> str:
    """Weights of ``unfold_paper_size``, random: their numbers do not change the time."""
    recipe = read_recipe("unfold_paper_size")
    torch.manual_seed(0)
    unet = {"channels": 1, **recipe.network.model_dump(exclude_none=True)}
    network = UnfoldingNetwork(unet, recipe.image.mean, recipe.image.std)
    for p in network.parameters():
        if p.ndim == 4:
            torch.nn.init.normal_(p, std=0.3 / (p[0].numel() ** 0.5))
    path = Path(tempfile.mkdtemp()) / "paper_size.safetensors"
    save_weights(path, DiffUnfolding.form, network.config | {"sigma_range": [0.01, 20.0]}, network.state_dict())
    return str(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--paper", action="store_true")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    repeats = 3 if options.quick else 11
    torch.set_num_threads(THREADS)
    everything = list(VARIANTS)
    rows, notes = network_rows("unfold_photos", repeats)
    rows += sampler_rows("unfold_photos", 1, 3, repeats, everything, "sampler, 3 steps")
    rows += sampler_rows("unfold_photos", 4, 1, repeats, everything, "sampler, 1 step")
    rows += sampler_rows("unfold_photos", 16, 1, repeats, ["eager float32", *everything[3:]], "sampler, 1 step")
    rows += quality_rows()
    rows += process_rows(repeats)
    if options.paper:
        weights = paper_size()
        large, more = network_rows(weights, repeats)
        rows += [row | {"what": "network of 47 M, one call"} for row in large]
        notes += [f"47 M: {more[0]}"]
        chosen = ["eager float32", *everything[3:]]
        rows += sampler_rows(weights, 1, 1, repeats, chosen, "sampler of 47 M, 1 step")
        rows += sampler_rows(weights, 4, 1, 3, chosen, "sampler of 47 M, 1 step")
        rows += sampler_rows(weights, 16, 1, 1, chosen, "sampler of 47 M, 1 step")
    notes += [
        f"Deblurring at {SIZE}×{SIZE}, posterior_sampler: three network calls a step. {THREADS} threads, medians of "
        f"{repeats} interleaved runs (47 M at batch 4: 3, at batch 16: 1).",
        "A process: start, read, one step, write.",
    ]
    write_report("native", rows, "OMP_NUM_THREADS=4 python benchmarks/native.py --paper", notes, "C++ backend")


if __name__ == "__main__":
    main()
