"""Diff-Unfolding on photographs: PNPKIT_DATA=… python benchmarks/diff_unfolding.py [RUNS_FOLDER]

Crops 128×128 of 20 BSDS validation photographs, grey, which no network saw; six problems of the training families, a
larger box, and two operators never trained on (sparse-view CT, a plugin's). Diff-Unfolding with ``unfold_photos``: the
posterior mean (one step), one draw (10 steps) and the mean of 4 draws. Beside it every plug-and-play method with
``photos_gray``, the unconditional prior of the same images, at the best of its settings on 4 other photographs.
RUNS_FOLDER keeps what is done: the same command goes on, and holds the runs of control networks
(``concatenation_photos``, by `pnpkit train benchmarks/recipes/concatenation_photos.yaml`), if there are any.
"""

import itertools
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from data import folder, levin_kernels
from timing import write_report

import pnpkit as pk
from pnpkit import registry
from pnpkit.bench.statistics import difference, mean_interval
from pnpkit.io import read_image
from pnpkit.metrics.image import psnr, ssim
from pnpkit.metrics.perceptual import haarpsi
from pnpkit.operators import CT, Blur, Inpainting, SuperResolution
from pnpkit.operators.base import LinearOperator
from pnpkit.priors import TV, Concatenated
from pnpkit.priors.base import Prior
from pnpkit.problem import Problem
from pnpkit.solvers import ADMM, DPS, HQS, PDHG, DiffPIR, PosteriorSampler
from pnpkit.solvers.base import Solver, solve

SIDE, TEST, TUNE = 128, 20, 4
SHAPE = (1, SIDE, SIDE)
GREY = torch.tensor([0.299, 0.587, 0.114]).reshape(3, 1, 1)
Candidate = tuple[Prior, Solver]
KINDS = {"posterior mean": (1, 1), "one draw": (10, 1), "mean of 4 draws": (10, 4)}  # steps, chains
TRAINED = ("70 % missing", "box 24×24", "Gaussian blur", "motion blur", "×2", "×4")


def photographs() -> torch.Tensor:
    """Central crops of 24 BSDS validation photographs, (24, 1, 128, 128); the last 4 are for tuning."""
    files = sorted((folder() / "natural" / "bsds_val").glob("*.jpg"))[: TEST + TUNE]
    found = []
    for file in files:
        x = (GREY * torch.from_numpy(read_image(file))).sum(0, keepdim=True)
        top, left = ((n - SIDE) // 2 for n in x.shape[-2:])
        found.append(x[:, top : top + SIDE, left : left + SIDE])
    return torch.stack(found)


def tasks() -> dict[str, tuple[LinearOperator, float]]:
    """Operators and the noise in units of y."""
    boxes = {n: pk.make("box_mask", shape=SHAPE, height=n, width=n) for n in (24, 40)}
    found = {
        "70 % missing": (Inpainting(mask=pk.make("random_mask", shape=SHAPE, fraction=0.3, seed=1)), 0.02),
        "box 24×24": (Inpainting(mask=boxes[24]), 0.02),
        "Gaussian blur": (Blur(kernel=pk.make("gaussian_kernel", size=25, std=2.0), shape=SHAPE), 0.02),
        "motion blur": (Blur(kernel=levin_kernels()[6], shape=SHAPE), 0.02),
        "×2": (SuperResolution(kernel=pk.make("bicubic_kernel", factor=2), factor=2, shape=SHAPE), 0.02),
        "×4": (SuperResolution(kernel=pk.make("bicubic_kernel", factor=4), factor=4, shape=SHAPE), 0.02),
        "box 40×40": (Inpainting(mask=boxes[40]), 0.02),
        "sparse CT": (CT(angles=pk.make("view_angles", views=24), shape=SHAPE, detectors=182).with_cg(tol=1e-3), 0.5),
    }
    if "vignette" in registry.names("operators"):  # pip install ./examples/plugin
        gain = {"make": "vignette_gain", "shape": list(SHAPE), "strength": 1.5}
        found["vignette (plugin)"] = (pk.operator({"name": "vignette", "gain": gain}), 0.05)
    return found


def settings() -> dict[str, list[Solver]]:
    """What each plug-and-play method is tuned over."""
    ways = ((8, None), (24, None), (24, 0.6))
    return {
        "DPIR (HQS)": [HQS(n_steps=n, lam=m, sigma_start=s) for n, s in ways for m in (0.1, 0.23, 0.6)],
        "score-PnP (ADMM)": [ADMM(n_steps=24, sigma_start=s, lam=m) for s in (0.2, 0.6) for m in (0.3, 0.6, 1.0)],
        "DiffPIR": [DiffPIR(n_steps=50, lam=m, zeta=0.1) for m in (1.0, 3.0, 7.0, 15.0)],
        "DPS": [DPS(n_steps=40, weight=w, eta=e) for w, e in ((1.0, 1.0), (3.0, 1.0), (3.0, 0.0))],
    }  # fmt: skip


def measured(operator: LinearOperator, sigma: float, x: torch.Tensor, seed: int) -> Problem:
    y = operator(x)
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed))
    return Problem(operator, pk.Gaussian(sigma), y + sigma * noise)


def judged(x: torch.Tensor, ref: torch.Tensor) -> dict[str, list[float]]:
    """Per image."""
    inside = x.clamp(0, 1)
    return {
        "PSNR": psnr(x, ref, 1.0).tolist(), "SSIM": ssim(x, ref, 1.0).tolist(), "HaarPSI": haarpsi(inside, ref).tolist()
    }  # fmt: skip


def chosen(prior: Prior, solver: Solver) -> str:
    found = {n: getattr(solver, n, None) for n in ("n_steps", "sigma_start", "lam", "weight", "eta")}
    if isinstance(prior, TV):
        found["weight"] = prior.weight
    return ", ".join(f"{n} {v:g}" for n, v in found.items() if v is not None)


class Kept:
    """Cells that are done, in a file."""

    def __init__(self, path: Path):
        self.path = path
        self.cells: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}

    def get(self, key: str, make: Any) -> Any:
        if key not in self.cells:
            self.cells[key] = make()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(self.cells))
            scores = {k: round(sum(v) / len(v), 3) for k, v in self.cells[key].items() if isinstance(v, list)}
            print(key, scores, flush=True)
        return self.cells[key]


def plug_and_play(candidates: Sequence[Candidate], test: Problem, tune: Problem, x: torch.Tensor) -> dict[str, Any]:
    """The best of the candidates on the crops for tuning, and what it does on the others."""
    prior, solver = max(candidates, key=lambda c: float(psnr(solve(tune, *c).x, x[TEST:], 1.0).nan_to_num(-99).mean()))
    result = solve(test, prior, solver)
    told = {"calls": result.calls["prior"], "seconds": result.seconds, "chosen": chosen(prior, solver)}
    return judged(result.x, x[:TEST]) | told


def unrolled(prior: Prior, kind: str, test: Problem, x: torch.Tensor) -> dict[str, Any]:
    steps, chains = KINDS[kind]
    result = solve(test, prior, PosteriorSampler(n_steps=steps), chains=chains)
    told = {"calls": result.calls["prior"] * chains, "seconds": result.seconds, "chosen": ""}
    return judged(result.x, x[:TEST]) | told


def rivals(operator: LinearOperator, sigma: float) -> dict[str, list[Candidate]]:
    """What every plug-and-play method is tuned over."""
    gray = registry.build("priors", {"name": "unet", "weights": "photos_gray", "arithmetic": "bfloat16"})
    spread = sigma / float(operator.norm())
    tv = [(TV(weight=w / spread), PDHG(n_steps=200)) for w in (0.05, 0.1, 0.2, 0.4)]
    found = {"TV": tv} | {name: [(gray, s) for s in solvers] for name, solvers in settings().items()}
    if isinstance(operator, CT):  # every data step takes seconds: the method that was best elsewhere, fewer settings
        found = {"TV": tv[:3], "DPIR (HQS)": [(gray, HQS(n_steps=8, lam=m)) for m in (0.1, 0.23, 0.6)]}
    return found


def posteriors(runs: Path) -> dict[str, Prior]:
    """Diff-Unfolding, and the control where it has been trained."""
    if "unfold_photos" not in registry.names("weights"):
        return {}
    found = {"Diff-Unfolding": pk.prior({"name": "unfold_photos", "arithmetic": "bfloat16", "backend": "auto"})}
    if (file := runs / "concatenation_photos" / "concatenation_photos.safetensors").is_file():
        found["concatenation"] = Concatenated(weights=str(file), arithmetic="bfloat16")
    return found


def cells(kept: Kept, runs: Path, x: torch.Tensor) -> dict[str, dict[str, Any]]:
    """{task: {method: scores}}."""
    found: dict[str, dict[str, Any]] = {}
    models = posteriors(runs)
    for task, (operator, sigma) in tasks().items():
        test, tune = measured(operator, sigma, x[:TEST], 2), measured(operator, sigma, x[TEST:], 3)
        make = {n: partial(plug_and_play, c, test, tune, x) for n, c in rivals(operator, sigma).items()}
        for model, kind in itertools.product(models, KINDS):
            make[f"{model}, {kind}"] = partial(unrolled, models[model], kind, test, x)
        found[task] = {name: kept.get(f"{task}|{name}", run) for name, run in make.items()}
    return found


def rival(methods: dict[str, Any]) -> str:
    """The best plug-and-play method."""
    return max((m for m in methods if m in settings()), key=lambda m: sum(methods[m]["PSNR"]))


def rows_of(found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for task, methods in found.items():
        best = rival(methods)
        for method, s in methods.items():
            gap = difference(s["PSNR"], methods[best]["PSNR"]).interval
            row: dict[str, Any] = {"problem": task, "method": method, "PSNR": str(mean_interval(s["PSNR"]))}
            row["against the best PnP"] = (
                "(it)" if method == best else f"{gap.mean:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}]"
            )
            row |= {n: f"{mean_interval(s[n]).mean:.3f}" for n in ("SSIM", "HaarPSI")}
            rows.append(row | {"calls": s["calls"], "s": f"{s['seconds']:.1f}", "chosen": s["chosen"]})
    return rows


def summary(found: dict[str, dict[str, Any]]) -> list[str]:
    """Over the problems of the training families: against the best plug-and-play method of each."""
    told = []
    for method in next(iter(found.values())):
        if method in settings() or method == "TV":
            continue
        lines = {}
        for score in ("PSNR", "HaarPSI"):
            pairs = [(found[t][method][score], found[t][rival(found[t])][score]) for t in TRAINED]
            per_image = [sum(a[i] - b[i] for a, b in pairs) / len(pairs) for i in range(TEST)]
            lines[score] = mean_interval(per_image)
        haar = lines["HaarPSI"]
        told.append(
            f"{method}, mean of the {len(TRAINED)} problems of the training families: {lines['PSNR']} dB and HaarPSI "
            f"{haar.mean:+.3f} [{haar.low:+.3f}, {haar.high:+.3f}] against the best plug-and-play method of each."
        )
    return told


def main() -> None:
    runs = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs")
    torch.set_num_threads(int(sys.argv[2]) if len(sys.argv) > 2 else 3)
    found = cells(Kept(runs / "diff_unfolding.json"), runs, photographs())
    notes = [
        *summary(found),
        f"n = {TEST} crops {SIDE}×{SIDE}, one noise seed; intervals: 95 % bootstrap over images, differences paired. "
        "One draw and the samplers' results are single samples. HaarPSI: perceptual, 1 is perfect. s: for all crops.",
        "calls: of the network, for one image; of Diff-Unfolding three a step. Networks in bfloat16.",
        "Diff-Unfolding runs in C++ where that is built, the others in Python: their seconds do not compare.",
        "concatenation: the control, a conditional diffusion model of the same size and start, which is given a first "
        "image from the data beside x_t.",
        "Of the last three nothing was in training: boxes were at most 29 pixels wide there.",
    ]
    command = "PNPKIT_DATA=… python benchmarks/diff_unfolding.py"
    write_report("diff_unfolding", rows_of(found), command, notes, "Diff-Unfolding on photographs")


if __name__ == "__main__":
    main()
