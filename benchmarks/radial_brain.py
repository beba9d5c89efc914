"""Radial multi-coil MRI of a real brain beside sigpy: python benchmarks/radial_brain.py (needs PNPKIT_DATA)

The image of the real 8-channel k-space, measured along sigpy's radial trajectory (exact to 1e-6) with noise. CG-SENSE
and L1-wavelet: seconds and NMSE of both libraries from the same data, maps and strengths.
"""

import numpy as np
import torch
from data import folder
from real_brain import timed
from timing import write_report

import pnpkit as pk
from pnpkit.io import read_cfl, read_npy
from pnpkit.metrics.image import nmse
from pnpkit.priors import L1Wavelet
from pnpkit.problem import Problem
from pnpkit.solvers import CG, FISTA
from pnpkit.solvers.base import solve

SIGMA = 0.004  # of images whose largest magnitude is 1
STRENGTHS = (0.05, 0.1, 0.2, 0.4, 0.8)


def scan() -> tuple[torch.Tensor, pk.operators.NonCartesianMRI, torch.Tensor, np.ndarray]:
    """Truth, our operator, its data, the trajectory as sigpy takes it."""
    kspace = torch.from_numpy(read_cfl(folder() / "mri" / "espirit_full.cfl"))
    size = tuple(kspace.shape[-2:])
    maps = pk.make("espirit_maps", kspace=kspace)
    x = pk.operators.MRI(mask=torch.ones(1, *size), maps=maps).adjoint(kspace[None])
    x = x / x.abs().max()
    spokes = read_npy(folder() / "mri" / "sigpy_projection_coord.npy").astype(np.float32)
    points = spokes / np.abs(spokes).max((0, 1)) * (np.array(size, dtype=np.float32) / 2)
    trajectory = torch.from_numpy(points.reshape(-1, 2))
    exact = pk.operators.NonCartesianMRI(trajectory=trajectory, shape=(1, *size), maps=maps, eps=1e-6)
    y = pk.Gaussian(SIGMA).sample(exact(x), torch.Generator().manual_seed(0))
    return x, pk.operators.NonCartesianMRI(trajectory=trajectory, shape=(1, *size), maps=maps), y, points.reshape(-1, 2)


def main() -> None:
    from sigpy.mri.app import L1WaveletRecon, SenseRecon

    torch.set_num_threads(1)
    x, operator, y, points = scan()
    problem = Problem(operator, pk.Gaussian(SIGMA), y)
    maps, data = operator.maps.numpy(), y[0].numpy()
    support = x.abs() > 0.03
    rows = []

    def report(method: str, library: str, strength: float | None, run, repeats: int = 3) -> None:
        found, seconds = timed(run, repeats)
        row = {"method": method, "library": library, "strength": strength, "seconds": f"{seconds:.2f}"}
        rows.append(row | {"NMSE": f"{float(nmse(found, x, support)):.5f}"})
        print(rows[-1], flush=True)

    def theirs(app, **options):
        return lambda: torch.from_numpy(np.asarray(app(data, maps, coord=points, show_pbar=False, **options).run()))[
            None, None
        ]

    for steps in (10, 30):
        report("CG-SENSE", f"pnpkit, {steps} steps", None, lambda s=steps: solve(problem, None, CG(n_steps=s)).x)
        report("CG-SENSE", f"sigpy, {steps} steps", None, theirs(SenseRecon, lamda=0, max_iter=steps))
    for s in STRENGTHS:
        prior = L1Wavelet(weight=s / SIGMA)
        report("L1-wavelet", "pnpkit FISTA, 100 steps", s, lambda p=prior: solve(problem, p, FISTA(n_steps=100)).x, 1)
        report("L1-wavelet", "sigpy, 100 steps", s, theirs(L1WaveletRecon, lamda=s * SIGMA, max_iter=100), 1)
    notes = [
        f"230×180, 8 coils, {len(points)} samples, noise {SIGMA} of the largest magnitude; NMSE where the image is "
        "above 3 % of it. One thread; each run makes its operator anew in sigpy's apps, ours keeps it. strength as in "
        "real_brain: the same objective. 100 steps are sigpy's default.",
    ]
    write_report("radial_brain", rows, "PNPKIT_DATA=… python benchmarks/radial_brain.py", notes)


if __name__ == "__main__":
    main()
