"""Diff-Unfolding on accelerated MRI: PNPKIT_DATA=… python benchmarks/unfolding_mri.py [RUNS_FOLDER]

20 slices of a brain volume that no network saw (chris_PD, synthetic smooth phase), 8 simulated coils, lines along one
axis with R = 4 and 8, a Cartesian plane with R = 6, and 40 radial spokes (never trained on); then real 8-coil k-space.
Classical methods and HQS with ``brain_mri`` at the best of their settings on 4 other slices (on the real brain: the
settings of R = 4). RUNS_FOLDER may hold ``concatenation_mri``: the U-Net that improves the zero-filled image.
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from data import folder
from diff_unfolding import Candidate, Kept, chosen
from timing import write_report

import pnpkit as pk
from pnpkit import registry
from pnpkit.bench.statistics import difference, mean_interval
from pnpkit.demo.mri import brain
from pnpkit.metrics.image import nmse, psnr, ssim
from pnpkit.operators import MRI, NonCartesianMRI
from pnpkit.operators.base import LinearOperator
from pnpkit.priors import TV, Concatenated, L1Wavelet
from pnpkit.priors.base import Prior
from pnpkit.problem import Problem
from pnpkit.solvers import CG, FISTA, HQS, PDHG, PosteriorSampler
from pnpkit.solvers.base import solve
from pnpkit.training.data import Pool
from pnpkit.training.posterior import complex_image
from pnpkit.training.sources import Volumes

SIDE, TEST, TUNE, SIGMA = 160, 20, 4, 0.01
KINDS = {"posterior mean": (1, 1), "one draw": (5, 1)}


def slices() -> torch.Tensor:
    """24 axial slices spread over the volume, (24, 1, 160, 160) complex, magnitude about [0, 1]; every 6th tunes."""
    source = Volumes(path=str(folder() / "mri/volumes"), names=("chris_PD.nii.gz",), axes=(2,))
    x = complex_image(Pool([source], 1, SIDE, augment=False, phase=True).centres(TEST + TUNE, SIDE))
    tune = torch.arange(TEST + TUNE) % 6 == 3
    return torch.cat([x[~tune], x[tune]])


def operators() -> dict[str, LinearOperator]:
    size = (1, SIDE, SIDE)
    maps = pk.make("birdcage_maps", shape=(8, SIDE, SIDE))
    masks = {}
    for r in (4, 8):
        masks[f"lines, R = {r}"] = pk.make("line_mask", shape=size, acceleration=float(r), calib=8, seed=1)
    masks["plane, R = 6"] = pk.make("poisson_disc_mask", shape=size, acceleration=6.0, calib=12, seed=1)
    found: dict[str, LinearOperator] = {name: MRI(mask=mask, maps=maps) for name, mask in masks.items()}
    spokes = pk.make("radial_trajectory", shape=(SIDE, SIDE), spokes=40, samples=2 * SIDE).flatten(0, -2)
    found["radial, 40 spokes"] = NonCartesianMRI(trajectory=spokes, shape=size, maps=maps)
    return {name: a.with_cg(tol=1e-4, max_iter=300) for name, a in found.items()}


def measured(operator: LinearOperator, x: torch.Tensor, seed: int) -> Problem:
    y, rng = operator(x), torch.Generator().manual_seed(seed)
    sigma = SIGMA * float(operator.norm()) if isinstance(operator, NonCartesianMRI) else SIGMA
    noise = torch.randn(y.shape, dtype=y.dtype, generator=rng)  # of variance ½ per real component
    return Problem(operator, pk.Gaussian(sigma), y + 2**0.5 * sigma * noise)


def judged(x: torch.Tensor, ref: torch.Tensor) -> dict[str, list[float]]:
    """Per slice: PSNR and SSIM of magnitudes, range 1 (1 is the brightest tissue); NMSE of the complex image."""
    a, b = x.abs(), ref.abs()
    return {"PSNR": psnr(a, b, 1.0).tolist(), "SSIM": ssim(a, b, 1.0).tolist(), "NMSE": nmse(x, ref).tolist()}


def score_prior() -> Any:
    return registry.build(
        "priors", {"name": "unet", "weights": "brain_mri", "arithmetic": "bfloat16", "backend": "auto"}
    )


def settings(sigma: float) -> dict[str, list[Candidate]]:
    score = score_prior()
    return {
        "CG-SENSE": [(None, CG(n_steps=n, tol=None)) for n in (5, 10, 20, 40)],  # type: ignore[list-item]
        "L1-wavelet": [(L1Wavelet(weight=w / sigma, shifts=4), FISTA(n_steps=80)) for w in (0.1, 0.2, 0.4, 0.8)],
        "TV": [(TV(weight=w / sigma), PDHG(n_steps=150)) for w in (0.1, 0.2, 0.4, 0.8)],
        "HQS, brain_mri": [(score, HQS(n_steps=n, lam=m)) for n, m in ((8, 0.1), (8, 0.23), (20, 0.1), (20, 0.23))],
    }


def tuned(candidates: Sequence[Candidate], test: Problem, tune: Problem, x: torch.Tensor) -> dict[str, Any]:
    return run(best(candidates, tune, x[TEST:]), test, x[:TEST])


def best(candidates: Sequence[Candidate], tune: Problem, x: torch.Tensor) -> Candidate:
    return min(candidates, key=lambda c: float(nmse(solve(tune, *c).x, x).nan_to_num(99).mean()))


def run(found: Candidate, test: Problem, x: torch.Tensor, chains: int = 1) -> dict[str, Any]:
    prior, solver = found
    result = solve(test, prior, solver, chains=chains)
    told = "" if isinstance(solver, PosteriorSampler) else chosen(prior, solver)
    return judged(result.x, x) | {"calls": result.calls["prior"] * chains, "seconds": result.seconds, "chosen": told}


def posteriors(runs: Path) -> dict[str, Prior]:
    if "unfold_mri" not in registry.names("weights"):
        return {}
    found: dict[str, Prior] = {"Diff-Unfolding": pk.prior({"name": "unfold_mri", "arithmetic": "bfloat16"})}
    if (file := runs / "concatenation_mri" / "concatenation_mri.safetensors").is_file():
        found["concatenation U-Net"] = Concatenated(weights=str(file), arithmetic="bfloat16")
    return found


def cells(kept: Kept, runs: Path) -> dict[str, dict[str, Any]]:
    x, found, models = slices(), {}, posteriors(runs)
    for task, operator in operators().items():
        test, tune = measured(operator, x[:TEST], 2), measured(operator, x[TEST:], 3)
        sigma = float(test.likelihood.sigma)  # type: ignore[arg-type]
        row = found.setdefault(task, {})
        for name, candidates in settings(sigma).items():
            row[name] = kept.get(f"{task}|{name}", partial(tuned, candidates, test, tune, x))
        for model, prior in models.items():
            for kind, (steps, chains) in KINDS.items():
                make = partial(run, (prior, PosteriorSampler(n_steps=steps)), test, x[:TEST], chains)
                row[f"{model}, {kind}"] = kept.get(f"{task}|{model}, {kind}", make)
    return found


def real_brain(models: dict[str, Prior]) -> list[dict[str, Any]]:
    """Measured k-space; NMSE within the support of the reference, which is noisy itself."""
    case = brain(folder() / "mri")
    sigma, rows = float(case.noise.sigma), []
    for name, problem, x, support in real_problems(case, sigma):
        methods = {m: c[len(c) // 2] for m, c in settings(sigma).items()} | {
            f"{model}, {kind}": (prior, PosteriorSampler(n_steps=KINDS[kind][0]))
            for model, prior in models.items()
            for kind in ("posterior mean",)
        }
        for method, (prior, solver) in methods.items():
            result = solve(problem, prior, solver)
            error = float(nmse(result.x, x, support))
            rows.append({"k-space": name, "method": method, "NMSE": f"{error:.5f}", "s": f"{result.seconds:.1f}"})
            print(rows[-1], flush=True)
    return rows


def real_problems(case: Any, sigma: float):
    """(name, problem, reference, support) under the 2×2 mask of the data and under lines."""
    from pnpkit.spec import load_tensor

    kspace = load_tensor({"file": str(folder() / "mri/espirit_full.cfl")})
    kspace = kspace / torch.fft.ifft2(kspace, norm="ortho").abs().max()
    size = (1, *kspace.shape[-2:])
    masks = {"2×2": case.operator.mask}
    for r in (4, 6):
        masks[f"lines, R = {r}"] = pk.make("line_mask", shape=size, acceleration=float(r), calib=24, seed=0)
    for name, mask in masks.items():
        maps = pk.make("espirit_maps", kspace=kspace * mask)
        x = MRI(mask=torch.ones_like(mask), maps=maps).pinv(kspace[None])
        operator = MRI(mask=mask, maps=maps).with_cg(tol=1e-4, max_iter=300)
        yield name, Problem(operator, pk.Gaussian(sigma), (kspace * mask)[None]), x, x.abs() > 0.05 * x.abs().max()


def rows_of(found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for task, methods in found.items():
        best_of = min((m for m in methods if not m.startswith(("Diff", "conc"))), key=lambda m: sum(methods[m]["NMSE"]))
        for method, s in methods.items():
            gap = difference(s["PSNR"], methods[best_of]["PSNR"]).interval
            row: dict[str, Any] = {"k-space": task, "method": method, "PSNR": str(mean_interval(s["PSNR"]))}
            text = f"{gap.mean:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}]"
            row["against the best other"] = "(it)" if method == best_of else text
            row |= {"SSIM": f"{mean_interval(s['SSIM']).mean:.4f}", "NMSE": f"{mean_interval(s['NMSE']).mean:.5f}"}
            rows.append(row | {"calls": s["calls"], "s": f"{s['seconds']:.0f}", "chosen": s["chosen"]})
    return rows


def main() -> None:
    runs = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs")
    torch.set_num_threads(int(sys.argv[2]) if len(sys.argv) > 2 else 3)
    found = cells(Kept(runs / "unfolding_mri.json"), runs)
    command = "PNPKIT_DATA=… python benchmarks/unfolding_mri.py"
    notes = [
        f"n = {TEST} slices {SIDE}×{SIDE} of one volume, sigma {SIGMA} of the brightest tissue (radial: times ‖A‖); "
        "one noise seed; intervals: 95 % bootstrap over slices, differences paired. s: for all slices. Slices of one "
        "volume are not independent: the intervals say nothing about other heads.",
        "calls: of the network, for one slice. Networks in bfloat16.",
    ]
    write_report("unfolding_mri", rows_of(found), command, notes, "Diff-Unfolding on accelerated MRI")
    notes = [
        "One brain: a demonstration. CG 20 steps, the others at the middle of the settings above; the reference's own "
        "noise is an NMSE of 0.00104 within its support (`sampler_real_brain.md`)."
    ]
    write_report("unfolding_real_brain", real_brain(posteriors(runs)), command, notes, "Diff-Unfolding on real k-space")


if __name__ == "__main__":
    main()
