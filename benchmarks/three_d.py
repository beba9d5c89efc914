"""A 3-D scan in bounded memory: python benchmarks/three_d.py

Non-Cartesian MRI of a 128³ volume, 4 coils, 3-D radial: CG-SENSE. The peak of resident memory beyond the program and
its data, as a multiple of the volume.
"""

import resource
import time
from pathlib import Path

import torch
from timing import write_report

import pnpkit as pk

N, COILS, SPOKES, STEPS = 128, 4, 6000, 8


def resident(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def main() -> None:
    torch.set_num_threads(1)
    grid = torch.linspace(-1, 1, N)
    z, y, x = torch.meshgrid(grid, grid, grid, indexing="ij")
    truth = ((x**2 + (1.3 * y) ** 2 + (1.1 * z) ** 2) < 0.7).float() - 0.5 * (
        (x - 0.2) ** 2 + y**2 + z**2 < 0.1
    ).float()
    truth = truth.to(torch.complex64)[None, None]
    maps = torch.stack([torch.exp(-((x - a) ** 2 + (y - b) ** 2)) for a, b in ((-1, -1), (-1, 1), (1, -1), (1, 1))])
    maps = (maps / maps.square().sum(0).sqrt()).to(torch.complex64)
    trajectory = pk.make("radial_trajectory_3d", shape=(N, N, N), spokes=SPOKES, samples=N)
    operator = pk.operators.NonCartesianMRI(trajectory=trajectory, shape=(1, N, N, N), maps=maps)
    noise = pk.Gaussian(0.02)
    data = noise.sample(operator(truth), torch.Generator().manual_seed(0))
    operator = pk.operators.NonCartesianMRI(
        trajectory=trajectory, shape=(1, N, N, N), maps=maps
    )  # nothing prepared yet
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    began = time.perf_counter()
    result = pk.solve(pk.Problem(operator, noise, data), None, pk.solver({"name": "cg", "n_steps": STEPS}))
    seconds = time.perf_counter() - began
    peak, volume = resident("VmHWM") - before, truth.nbytes / 2**20
    error = float((result.x - truth).abs().square().sum() / truth.abs().square().sum())
    row = {"volume": f"{N}³ complex64, {volume:.0f} MiB", "coils": COILS, "samples": len(trajectory)}
    row |= {"steps": STEPS, "seconds": seconds, "peak MiB": f"{peak:.0f}", "volumes": peak / volume}
    rows = [row | {"NMSE": f"{error:.4f}"}]
    notes = [
        "peak: resident memory beyond the program, the data and the maps, preparation of the Toeplitz operator "
        "included; it works on grids of twice the size, eight volumes each, coil by coil.",
        f"whole process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB. One thread.",
    ]
    write_report("three_d", rows, "python benchmarks/three_d.py", notes, title="A 3-D scan in bounded memory")


if __name__ == "__main__":
    main()
