"""Swapping operators, and ablations, at a small scale: PNPKIT_DATA=… python benchmarks/unfolding_small.py [RUNS_FOLDER]

What ``diff_unfolding_swap.yaml`` says: one denoiser, then every network from it for the same number of steps; tested
on 32×32 crops of BSDS validation photographs. Killed at any time, the same command goes on. Writes diff_unfolding_swap
and diff_unfolding_ablations, and the swap matrix as a picture.
"""

import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from data import folder
from timing import RESULTS, write_report

import pnpkit as pk
from pnpkit.bench.statistics import difference, mean_interval
from pnpkit.metrics.image import psnr
from pnpkit.metrics.uncertainty import coverage
from pnpkit.priors import Concatenated, DiffUnfolding
from pnpkit.priors.base import PosteriorDenoiser
from pnpkit.problem import Problem
from pnpkit.solvers import PosteriorSampler
from pnpkit.solvers.base import solve
from pnpkit.training.data import Pool
from pnpkit.training.loop import train
from pnpkit.training.recipe import Recipe
from pnpkit.training.sources import Images

PLAN = yaml.safe_load((Path(__file__).parent / "diff_unfolding_swap.yaml").read_text())
CONTROL = "concatenation: "
STEPS = (1, 2, 3, 5, 10, 20)


def plain(text: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in text.lower()).strip("_")


def trained(name: str, runs: Path, posterior: dict[str, Any] | None, steps: int | None = None) -> Path:
    """The weights of one network, trained where they are not there."""
    told = {**PLAN["base"], "name": "small_" + plain(name)}
    if steps:
        told["optimiser"] = told["optimiser"] | {"steps": steps}
    if posterior is not None:
        told["posterior"] = posterior | {"families": [PLAN["families"][f] for f in posterior["families"]]}
        told["start"] = str(trained("denoiser", runs, None, PLAN["start"]["steps"]))
    run = runs / told["name"]
    done = run / f"{told['name']}.safetensors"
    if not done.is_file():
        print("training", name, flush=True)
        train(Recipe(**told), run, report=lambda line: None)
    return done


def problems() -> tuple[dict[str, Problem], torch.Tensor]:
    """One problem a column, on the same crops."""
    n = PLAN["test"]["images"]
    pool = Pool([Images(path=str(folder() / "natural/bsds_val"))], 1, 32, augment=False)
    x = torch.stack([pool.sample(7, i)[0] for i in range(n)])
    found = {}
    for name, told in PLAN["operators"].items():
        operator = pk.operator(told["operator"])
        sigma = float(told["noise"])
        rng = torch.Generator().manual_seed(PLAN["test"]["seed"])
        y = operator(x)
        found[name] = Problem(operator, pk.Gaussian(sigma), y + sigma * torch.randn(y.shape, generator=rng))
    return found, x


def scores(prior: PosteriorDenoiser, problem: Problem, x: torch.Tensor, steps: int = 1, chains: int = 1) -> list[float]:
    return psnr(solve(problem, prior, PosteriorSampler(n_steps=steps), chains=chains).x, x, 1.0).tolist()


def swap(models: dict[str, PosteriorDenoiser]) -> dict[str, dict[str, list[float]]]:
    tests, x = problems()
    return {row: {column: scores(m, p, x) for column, p in tests.items()} for row, m in models.items()}


def swap_rows(found: dict[str, dict[str, list[float]]]) -> list[dict[str, str]]:
    rows = []
    for row, columns in found.items():
        cells = {"trained on": row}
        for column, values in columns.items():
            own = PLAN["operators"][column]["of"]
            specialist = None if own is None else (CONTROL + own if row.startswith(CONTROL) else own)
            text = f"{mean_interval(values).mean:.2f}"
            if specialist is not None and specialist != row:
                text += f" ({difference(values, found[specialist][column]).interval.mean:+.2f})"
            cells[column] = text
        rows.append(cells)
    return rows


def losses(found: dict[str, dict[str, list[float]]]) -> list[str]:
    """Mean swap loss of the family model and of the specialists, for both networks."""
    told = []
    for mark, name in (("", "unrolled"), (CONTROL, "concatenation")):
        inside, across = [], []
        for column, about in PLAN["operators"].items():
            if about["of"] is None:
                continue
            own = found[mark + about["of"]][column]
            inside.append(difference(found[mark + "family"][column], own).interval.mean)
            others = {o["of"] for o in PLAN["operators"].values() if o["of"] not in (None, about["of"])}
            across += [difference(found[mark + o][column], own).interval.mean for o in others]
        own, other = (f"{sum(v) / len(v):+.2f} dB (worst {min(v):+.2f})" for v in (inside, across))
        told.append(f"{name}: family model against the specialist {own}; a specialist on another's operators {other}.")
    return told


def picture(found: dict[str, dict[str, list[float]]], path: Path) -> None:
    """The matrix as a heat map: PSNR minus the best of the column."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows, columns = list(found), list(next(iter(found.values())))
    values = torch.tensor([[sum(found[r][c]) / len(found[r][c]) for c in columns] for r in rows])
    loss = values - values.amax(0)
    figure, axes = plt.subplots(figsize=(11, 5.2))
    image = axes.imshow(loss, cmap="viridis", vmin=-8, vmax=0, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    for i, row in enumerate(values.tolist()):
        for j, value in enumerate(row):
            axes.text(j, i, f"{value:.1f}", ha="center", va="center", color="white" if loss[i, j] < -4 else "black")
    axes.set_title("PSNR (dB) by training (rows) and operator (columns); colour: below the best of the column")
    figure.colorbar(image, ax=axes, label="dB")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def ablations(models: dict[str, PosteriorDenoiser], family: PosteriorDenoiser) -> list[dict[str, str]]:
    tests, x = problems()
    known = {c: p for c, p in tests.items() if PLAN["operators"][c]["of"]}
    base = [v for c, p in known.items() for v in scores(family, p, x)]
    rows = [{"variant": "K = 3, ADMM, prox, shared, anchor", "PSNR": f"{mean_interval(base)}", "difference": ""}]
    for name, prior in models.items():
        values = [v for c, p in known.items() for v in scores(prior, p, x)]
        gap = difference(values, base).interval
        rows.append(
            {
                "variant": name,
                "PSNR": f"{mean_interval(values)}",
                "difference": f"{gap.mean:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}]",
            }
        )
    rows = [r | calibration(p, known, x) for r, p in zip(rows, [family, *models.values()], strict=True)]
    for steps in STEPS:
        values = [v for c, p in known.items() for v in scores(family, p, x, steps)]
        means = [v for c, p in known.items() for v in scores(family, p, x, steps, 8)] if steps > 1 else values
        rows.append(
            {
                "variant": f"{steps} sampling steps: one draw / mean of 8",
                "PSNR": f"{mean_interval(values)} / {mean_interval(means).mean:.2f}",
            }
        )
    return rows


def calibration(prior: PosteriorDenoiser, known: dict[str, Problem], x: torch.Tensor) -> dict[str, str]:
    """Share of pixels that lie in the 90 % intervals of 19 draws, over the problems, on the first 8 crops."""
    inside = []
    for problem in known.values():
        draws = solve(problem[:8], prior, PosteriorSampler(n_steps=10, eta=1.0), chains=19).samples
        inside.append(float(coverage(draws, x[:8], 0.9).mean()))
    return {"90 % intervals hold": f"{100 * sum(inside) / len(inside):.0f} %"}


def main() -> None:
    runs = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs")
    torch.set_num_threads(int(sys.argv[2]) if len(sys.argv) > 2 else 3)
    models = {name: trained(name, runs, told) for name, told in PLAN["models"].items()}
    variants = {n: trained(n, runs, PLAN["models"]["family"] | told) for n, told in PLAN["ablations"].items()}
    priors = {n: (Concatenated if n.startswith(CONTROL) else DiffUnfolding)(weights=str(p)) for n, p in models.items()}
    found = swap(priors)
    picture(found, RESULTS / "diff_unfolding_swap.png")
    command = "PNPKIT_DATA=… python benchmarks/unfolding_small.py"
    steps, batch = PLAN["base"]["optimiser"]["steps"], PLAN["base"]["optimiser"]["batch"]
    scale = (
        f"Posterior mean (one step) on {PLAN['test']['images']} crops 32×32 of BSDS validation photographs, PSNR. "
        f"Every network has 0.9 M parameters, starts from one denoiser and has seen {steps * batch:,} crops."
    )
    notes = [*losses(found), scale, "In brackets: against the specialist of the column, of the same kind of network."]
    write_report("diff_unfolding_swap", swap_rows(found), command, notes, "Diff-Unfolding: operators swapped")
    rows = ablations({n: DiffUnfolding(weights=str(p)) for n, p in variants.items()}, priors["family"])
    notes = [
        scale,
        "Over the six operators of the training families; differences paired, 95 % bootstrap over crops and operators.",
    ]
    write_report("diff_unfolding_ablations", rows, command, notes, "Diff-Unfolding: ablations")


if __name__ == "__main__":
    main()
