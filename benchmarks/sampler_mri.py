"""Posterior samplers on accelerated MRI: PNPKIT_DATA=… python benchmarks/sampler_mri.py [RUNS_FOLDER] [--threads N]

The shipped prior ``brain_mri`` on 10 slices of a volume that it never saw (``unfolding_mri.slices``), 8 simulated
coils: every second line both ways, and lines with R = 4 and 6. Classical methods and HQS with the same network beside
the samplers, each at the best of its settings on 4 other slices. Then real 8-coil k-space, one brain.
RUNS_FOLDER keeps what is done: the same command goes on.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import torch
import unfolding_mri as common
from data import folder
from diff_unfolding import Candidate, Kept
from sampler_photos import told
from scipy.stats import t as student
from timing import write_report

import pnpkit as pk
from pnpkit import registry
from pnpkit.bench.statistics import difference, mean_interval
from pnpkit.demo.mri import brain
from pnpkit.metrics.image import nmse
from pnpkit.operators import MRI
from pnpkit.operators.base import LinearOperator
from pnpkit.problem import Problem
from pnpkit.solvers import DAPS, DPS, AnnealedLangevin, DiffPIR, PiGDM, PnPDM, REDDiff
from pnpkit.solvers.base import Solver, missing, solve
from pnpkit.solvers.result import Result

SLICES, CHAINS, STEPS = 10, 4, 25
SIZE = (1, common.SIDE, common.SIDE)
ALONE = ("dps", "red_diff")  # far behind on the slices for tuning, and no sampler: one chain
FAR = (*ALONE, "annealed_langevin")  # behind by 3 dB and more under the 2×2 mask: not run under lines


def operators() -> dict[str, LinearOperator]:
    maps = pk.make("birdcage_maps", shape=(8, common.SIDE, common.SIDE))
    rows, columns = (
        pk.make("line_mask", shape=SIZE, acceleration=2.0, calib=0, pattern="uniform", axis=a) for a in (-2, -1)
    )
    centre = 1 - pk.make("box_mask", shape=SIZE, height=16, width=16)
    masks = {"2×2": torch.maximum(rows * columns, centre)}
    for r in (4, 6):
        masks[f"lines, R = {r}"] = pk.make("line_mask", shape=SIZE, acceleration=float(r), calib=8, seed=1)
    return {name: MRI(mask=mask, maps=maps).with_cg(tol=1e-3, max_iter=100) for name, mask in masks.items()}


def samplers() -> dict[str, list[Solver]]:
    """What each sampler is tuned over."""
    gibbs = {"n_steps": 20, "burn_in": 15, "thin": 5}  # the last draw of each chain
    return {
        "dps": [DPS(n_steps=STEPS, weight=w) for w in (1.0, 3.0)],
        "pigdm": [PiGDM(n_steps=STEPS)],
        "diffpir": [DiffPIR(n_steps=STEPS, lam=m) for m in (0.3, 1.0)],
        "daps": [DAPS(n_steps=STEPS)],
        "pnp_dm": [PnPDM(**gibbs, prior_steps=n) for n in (3, 6)],
        "red_diff": [REDDiff(n_steps=75, lam=m) for m in (0.25, 1.0)],
        "annealed_langevin": [AnnealedLangevin(n_steps=STEPS, inner_steps=2)],
    }


def real_samplers() -> dict[str, Solver]:
    found = {n: samplers()[n][-1] for n in ("pigdm", "diffpir", "pnp_dm")}
    return found | {"diffpir, lam 0.3": DiffPIR(n_steps=STEPS, lam=0.3)}


def sampled(candidates: list[Candidate], chains: int, test: Problem, tune: Problem, x: torch.Tensor) -> dict[str, Any]:
    """One sample, and what several say together."""
    prior, solver = common.best(candidates, tune, x[SLICES:]) if len(candidates) > 1 else candidates[0]
    result, ref = solve(test, prior, solver, chains=chains), x[:SLICES]
    one = result.x if result.samples is None else result.samples[-1]
    found: dict[str, Any] = {"one": common.judged(one, ref)}
    if chains > 1:
        found |= {"mean": common.judged(result.x, ref), "held": held(result, ref, ref.abs() > 0.05).tolist()}
    return found | {"calls": result.calls["prior"], "seconds": result.seconds / chains, "chosen": told(solver)}


def held(result: Result, x: torch.Tensor, support: torch.Tensor, noise: float = 0.0) -> torch.Tensor:
    """Share of x (B, …) in the 90 % interval for one more sample, as Gaussian: mean ± t·std·√(1 + 1/S), (B,).

    With so few samples no other interval of 90 % exists; t has 2·(S − 1) degrees, as std is over both parts.
    noise : of x itself, per part.
    """
    count = len(result.samples)
    spread = ((1 + 1 / count) * result.std.square() + noise**2).sqrt()
    reach = float(student.ppf(0.95, 2 * (count - 1))) * spread
    inside = (torch.view_as_real(x - result.x).abs() <= reach[..., None]).float().mean(-1)
    return (inside * support).flatten(1).sum(1) / support.flatten(1).sum(1)


def cells(kept: Kept) -> dict[str, dict[str, Any]]:
    x = common.slices()
    x, score = torch.cat([x[: common.TEST : common.TEST // SLICES], x[common.TEST :]]), common.score_prior()
    found: dict[str, dict[str, Any]] = {}
    for task, operator in operators().items():
        test, tune = common.measured(operator, x[:SLICES], 2), common.measured(operator, x[SLICES:], 3)
        row = found.setdefault(task, {})
        for name, candidates in common.settings(common.SIGMA).items():
            make = partial(classical, candidates, test, tune, x)
            row[name] = kept.get(f"{task}|{name}", make)
        for name, solvers in samplers().items():
            if name in FAR and task.startswith("lines"):
                continue
            chains = 1 if name in ALONE else CHAINS
            make = partial(sampled, [(score, s) for s in solvers], chains, test, tune, x)
            row[name] = kept.get(f"{task}|{name}", make)
    return found


def classical(candidates: list[Candidate], test: Problem, tune: Problem, x: torch.Tensor) -> dict[str, Any]:
    found = common.run(common.best(candidates, tune, x[SLICES:]), test, x[:SLICES])
    return {"one": {n: found.pop(n) for n in ("PSNR", "SSIM", "NMSE")}} | found


def rows_of(found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for task, methods in found.items():
        reference = methods["HQS, brain_mri"]["one"]["PSNR"]
        for method, s in methods.items():
            for kind in ("one", "mean"):
                if kind not in s:
                    continue
                draws = method in samplers() and samplers()[method][0].samples
                label = f", {'one sample' if kind == 'one' else f'mean of {CHAINS}'}" if draws else ""
                gap = difference(s[kind]["PSNR"], reference).interval
                row: dict[str, Any] = {"k-space": task, "method": method + label}
                row["PSNR"] = str(mean_interval(s[kind]["PSNR"]))
                row["against HQS"] = "" if method.startswith("HQS") else str(gap)
                row |= {"SSIM": f"{mean_interval(s[kind]['SSIM']).mean:.4f}"}
                row |= {"NMSE": f"{mean_interval(s[kind]['NMSE']).mean:.5f}"}
                row["90 % hold"] = f"{100 * mean_interval(s['held']).mean:.0f} %" if kind == "mean" else ""
                times = CHAINS if kind == "mean" else 1
                row |= {"calls": times * s["calls"], "s": f"{times * s['seconds']:.0f}", "chosen": s["chosen"]}
                rows.append(row)
    return rows


def real_brain(kept: Kept) -> list[dict[str, Any]]:
    """Measured k-space; NMSE within the support of the reference, whose own noise is stated."""
    case = brain(folder() / "mri")
    sigma, rows, score = float(case.noise.sigma), [], common.score_prior()  # type: ignore[arg-type]
    for name, exact, x, support in common.real_problems(case, sigma):
        problem = Problem(exact.operator.with_cg(tol=1e-3, max_iter=100), exact.likelihood, exact.y)  # type: ignore[attr-defined]
        floor = 2 * sigma**2 * float(support.sum() / x.abs().square()[support].sum())
        methods = {m: c[len(c) // 2] for m, c in common.settings(sigma).items()}
        methods |= {m: (score, s) for m, s in real_samplers().items()}
        for method, candidate in methods.items():
            chains = CHAINS if method in real_samplers() else 1
            cell = kept.get(f"real {name}|{method}", partial(real_cell, candidate, chains, problem, sigma, x, support))
            row: dict[str, Any] = {"k-space": name, "noise of the reference": f"{floor:.5f}"}
            row["method"] = f"{method}, mean of {chains}" if chains > 1 else method
            row |= {"NMSE": f"{cell['NMSE']:.5f}", "NMSE of one sample": f"{cell['one']:.5f}" if chains > 1 else ""}
            row["90 % hold"] = f"{100 * cell['held']:.0f} %" if chains > 1 else ""
            rows.append(row | {"s": f"{cell['seconds']:.0f}"})
    return rows


def real_cell(
    candidate: Candidate, chains: int, problem: Problem, sigma: float, x: torch.Tensor, support: torch.Tensor
) -> dict[str, float]:
    result = solve(problem, *candidate, chains=chains)
    found = {"NMSE": float(nmse(result.x, x, support)), "seconds": result.seconds}
    if chains > 1:
        one, share = nmse(result.samples[-1], x, support), held(result, x, support, sigma)
        found |= {"one": float(one), "held": float(share)}
    print(told(candidate[1]), found, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="?", default=Path("runs"))
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    kept = Kept(given.runs / "sampler_mri.json")
    found = cells(kept)
    some = common.measured(next(iter(operators().values())), common.slices()[:1], 2)
    score = common.score_prior()
    refused = " ".join(text for n in ("ddrm", "ddnm") for text in missing(registry.solver(n), some, score))
    command = f"PNPKIT_DATA=… python benchmarks/sampler_mri.py --threads {given.threads}"
    notes = [
        f"n = {SLICES} slices {common.SIDE}×{common.SIDE} of one volume, sigma {common.SIGMA} of the brightest tissue, "
        "one noise seed; intervals: 95 % bootstrap over slices, differences paired. Slices of one volume are not "
        "independent: the intervals say nothing about other heads. Settings: the best on 4 other slices.",
        f"90 % hold: share of the true pixels of the head in mean ± t·std·√(1 + 1/S) of S = {CHAINS} samples; 90 % "
        "would be right. calls: of the network, for one slice; s: for all slices, beside other work: rough. The "
        "network is in bfloat16.",
        f"{', '.join(FAR)} are far behind under the 2×2 mask and not run under lines. red_diff gives one estimate.",
        f"ddrm and ddnm do not fit, as several coils have no cheap singular values: {refused}",
    ]
    write_report("sampler_mri", rows_of(found), command, notes, "Posterior samplers on accelerated MRI")
    notes = [
        "One brain: a demonstration. The reference is the full k-space, and noisy: a perfect reconstruction would have "
        "the NMSE of its noise. Within the head. CG 20 steps, TV and wavelets at the middle of their settings; the "
        "samplers as above, and diffpir with a weight chosen on this brain.",
        f"90 % hold: as in the table of simulated coils, {CHAINS} samples, with the reference's noise added to their "
        "variance. A part of that noise is in the data too.",
    ]
    write_report("sampler_real_brain", real_brain(kept), command, notes, "Posterior samplers on real k-space")


if __name__ == "__main__":
    main()
