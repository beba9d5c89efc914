"""CT projectors side by side: python benchmarks/ct.py (quality needs PNPKIT_DATA)

256×256, 180 parallel views of 384 bins, float32: pnpkit, ASTRA on the CPU ("linear" and "line"), a sparse matrix of
ASTRA's, deepinv. The choice of pnpkit's engine rests on this table. Then filtered back-projection and CGLS on a chest
slice against ASTRA's on the same data, and a 3-D scan.
"""

import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import torch
from timing import compare, write_report

import pnpkit as pk
from pnpkit.metrics.image import psnr
from pnpkit.operators import CT

N, VIEWS, BINS = 256, 180, 384
ANGLES = torch.arange(VIEWS) * (math.pi / VIEWS)
Pair = tuple[Callable[[], object], Callable[[], object]]


def optomo(kind: str):
    """ASTRA's operator, on the CPU."""
    import astra

    volume = astra.create_vol_geom(N, N)
    geometry = astra.create_proj_geom("parallel", 1.0, BINS, ANGLES.numpy().astype(np.float64))
    return astra.OpTomo(astra.create_projector(kind, geometry, volume))


def sparse():
    """ASTRA's matrix of the "linear" projector, CSR, and its transpose."""
    import astra

    matrix = astra.matrix.get(astra.projector.matrix(optomo("linear").proj_id)).astype(np.float32).tocsr()
    return matrix, matrix.T.tocsr()


def engine(name: str) -> Pair:
    """(forward, adjoint) of one image."""
    rng = torch.Generator().manual_seed(0)
    x, y = torch.rand(1, 1, N, N, generator=rng), torch.rand(1, 1, VIEWS, BINS, generator=rng)
    a, b = x[0, 0].numpy(), y[0, 0].numpy()
    if name == "pnpkit":
        ours = CT(angles=ANGLES, shape=(1, N, N), detectors=BINS)
        return lambda: ours(x), lambda: ours.adjoint(y)
    if name.startswith("ASTRA"):
        theirs = optomo(name.split(", ")[1])
        return lambda: theirs.FP(a), lambda: theirs.BP(b)
    if name == "sparse matrix (SciPy)":
        matrix, transpose = sparse()
        flat, values = a.ravel(), b.ravel()
        return lambda: matrix @ flat, lambda: transpose @ values
    from deepinv.physics import Tomography

    theirs = Tomography(angles=ANGLES * 180 / math.pi, img_width=N, circle=False, device="cpu")
    measured = theirs.A(x)
    return lambda: theirs.A(x), lambda: theirs.A_adjoint(measured)


ENGINES = ("pnpkit", "ASTRA, linear", "ASTRA, line", "sparse matrix (SciPy)", "deepinv Tomography")
PEAK = """
import sys, torch
torch.set_num_threads(1)
sys.path.insert(0, "benchmarks")
import numpy, scipy.sparse, astra, numba, deepinv
import pnpkit.operators.joseph as joseph
from ct import engine
joseph.kernels()
status = lambda key: next(int(v.split()[1]) for v in open("/proc/self/status") if v.startswith(key))
engine("pnpkit")[0](); engine("pnpkit")[1]()  # compiled before the measurement
open("/proc/self/clear_refs", "w").write("5")  # the peak of resident memory starts anew
before = status("VmRSS")
forward, adjoint = engine(sys.argv[1])
forward(); adjoint()
print(status("VmHWM") - before)
"""


def peak(name: str) -> float:
    """MB of making the operator and calling it and its adjoint once, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", PEAK, name], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) / 1024


def speed() -> list[dict]:
    rows = []
    for threads in (1, 4):
        pairs = {name: engine(name) for name in ENGINES}
        calls = {f"{n} {w}": c for n, pair in pairs.items() for w, c in zip(("to", "back"), pair, strict=True)}
        seconds = compare(calls, 9, threads)
        for name in ENGINES:
            row = {"threads": threads, "projector": name, "forward ms": 1e3 * seconds[f"{name} to"]}
            row["adjoint ms"] = 1e3 * seconds[f"{name} back"]
            both = seconds[f"{name} to"] + seconds[f"{name} back"]
            row["pnpkit is × as fast"] = both / (seconds["pnpkit to"] + seconds["pnpkit back"])
            rows.append(row | {"peak MB": f"{peak(name):.0f}" if threads == 1 else None})
            print(rows[-1], flush=True)
    return rows


def quality() -> list[dict]:
    """A chest slice at 256×256, photon noise: the same algorithms on ASTRA's projector and on ours."""
    import astra
    from data import folder

    from pnpkit.io import read_dicom

    slices = sorted((folder() / "ct" / "chest").glob("*.dcm"))[:4]
    rows = []
    for path in slices:
        units = torch.from_numpy(read_dicom(path))[None]
        x = torch.nn.functional.avg_pool2d((units + 1000).clamp_min(0) / 1000 * 0.02 * 1.4, 2)  # attenuation a pixel
        ours = CT(angles=ANGLES, shape=(1, N, N), detectors=BINS)
        noise = pk.Transmission(counts=1e5)
        y = noise.invert(noise.sample(ours(x), torch.Generator().manual_seed(0)))
        projector = optomo("linear")
        found = {}
        for name, algorithm, steps in (("FBP", "FBP", 1), ("CGLS, 10 steps", "CGLS", 10)):
            target = astra.data2d.create("-vol", projector.vg, 0)
            config = astra.astra_dict(algorithm)
            config |= {"ReconstructionDataId": target, "ProjectorId": projector.proj_id}
            config["ProjectionDataId"] = astra.data2d.create("-sino", projector.pg, y[0, 0].numpy())
            run = astra.algorithm.create(config)
            astra.algorithm.run(run, steps)
            found[name, "ASTRA"] = torch.from_numpy(astra.data2d.get(target))[None, None]
        found["FBP", "pnpkit"] = ours.fbp(y)
        problem = pk.Problem(ours, pk.Gaussian(1.0), y)
        found["CGLS, 10 steps", "pnpkit"] = pk.solve(
            problem, None, pk.solver({"name": "cg", "n_steps": 10}), x0=torch.zeros_like(x)
        ).x
        top = float(x.max())
        for name in ("FBP", "CGLS, 10 steps"):
            scores = [float(psnr(found[name, who], x, top)) for who in ("pnpkit", "ASTRA")]
            rows.append({"slice": path.stem[:7], "method": name, "pnpkit dB": scores[0], "ASTRA dB": scores[1]})
            rows[-1]["difference"] = f"{scores[0] - scores[1]:+.3f}"
    return rows


def main() -> None:
    notes = [
        f"{N}×{N}, {VIEWS} views, {BINS} bins; one image, float32, medians of 9 interleaved calls. deepinv: its own "
        "bins. peak MB: making the operator, one forward and one adjoint, in a process of its own.",
        "Engine: pnpkit's projector is compiled by numba from Joseph's method. The sparse matrix is as fast or faster "
        "to apply but takes seconds and the memory in the table to make, anew for every geometry, and has no "
        "derivative in the angles; ASTRA's CPU projector has neither threads nor derivatives. One engine is kept.",
    ]
    write_report("ct", speed(), "python benchmarks/ct.py", notes, title="CT projectors")
    notes = [
        "Chest slices (512×512 halved), 10⁵ photons a ray, ASTRA 'linear' on the CPU; PSNR, range the maximum. With "
        "more steps CGLS fits the noise, and how fast depends on the last digits of either."
    ]
    command = "PNPKIT_DATA=… python benchmarks/ct.py"
    write_report("ct_quality", quality(), command, notes, title="CT reconstruction against ASTRA's")


if __name__ == "__main__":
    main()
