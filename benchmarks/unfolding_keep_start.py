"""What a share of the starting weights is worth: PNPKIT_DATA=… python benchmarks/unfolding_keep_start.py

``unfold_mri`` keeps a share of the denoiser that its training began with. Here it is mixed with that start in other
shares, on slices of another contrast (the four of chris_PD that chose the share) and of a training volume (chris_t1).
"""

import torch
from data import folder
from timing import write_report
from unfolding_mri import SIDE, TEST, measured, operators, slices

from pnpkit import registry
from pnpkit.metrics.image import psnr
from pnpkit.priors import DiffUnfolding
from pnpkit.problem import Problem
from pnpkit.solvers import HQS, PosteriorSampler
from pnpkit.solvers.base import solve
from pnpkit.training.data import Pool
from pnpkit.training.objectives import objective_of
from pnpkit.training.posterior import complex_image
from pnpkit.training.recipe import read_recipe
from pnpkit.training.sources import Volumes

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def training_slices() -> torch.Tensor:
    source = Volumes(path=str(folder() / "mri/volumes"), names=("chris_t1.nii.gz",), axes=(2,))
    return complex_image(Pool([source], 1, SIDE, augment=False, phase=True).centres(4, SIDE))


def mixed(prior: DiffUnfolding, shipped: dict[str, torch.Tensor], start: dict[str, torch.Tensor], share: float) -> None:
    """The prior with ``share`` of the start; the shipped weights have the recipe's."""
    kept = read_recipe("unfold_mri").optimiser.keep_start
    trained = {k: start[k] + (v - start[k]) / (1 - kept) for k, v in shipped.items()}
    prior.body.load_state_dict({k: torch.lerp(v, start[k], share) for k, v in trained.items()})


def score(problem: Problem, prior: object, solver: object, x: torch.Tensor) -> float:
    return float(psnr(solve(problem, prior, solver).x.abs(), x.abs(), 1.0).mean())  # type: ignore[arg-type]


def main() -> None:
    prior = DiffUnfolding(weights="unfold_mri")
    shipped = {k: v.clone() for k, v in prior.body.state_dict().items()}
    first = objective_of(read_recipe("unfold_mri")).build().state_dict()
    start = {k: first[k] for k in shipped}
    images = {"another contrast, chris_PD": slices()[TEST:], "a training volume, chris_t1": training_slices()}
    hqs = registry.build("priors", "brain_mri"), HQS(n_steps=8)
    rows = []
    for name, x in images.items():
        for task, operator in list(operators().items())[:2]:
            problem = measured(operator, x, 3)
            row: dict[str, str] = {"slices": f"{name} ({len(x)})", "k-space": task}
            for share in SHARES:
                mixed(prior, shipped, start, share)
                row[f"share {share:g}"] = f"{score(problem, prior, PosteriorSampler(n_steps=1), x):.2f}"
            row["HQS, 8 calls"] = f"{score(problem, *hqs, x):.2f}"
            rows.append(row)
            print(row, flush=True)
    notes = [
        "PSNR in dB of magnitudes, mean of the slices; the shipped weights have the share 0.25, chosen on the first."
    ]
    write_report("unfolding_keep_start", rows, "python benchmarks/unfolding_keep_start.py", notes)


if __name__ == "__main__":
    main()
