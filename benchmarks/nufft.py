"""Non-uniform Fourier transforms: python benchmarks/nufft.py

256×256, 50,176 golden-angle radial samples, 8 coils, complex64: pnpkit, torchkbnufft, sigpy, deepinv, a bare finufft
plan; errors against the exact sum on 200 samples. Then the normal operator beside the FFTs it contains. Every library
runs in processes of its own, which take turns: in one process their thread pools slow each other down. torch comes
first: imported after finufft it brings a second OpenMP pool, and four threads are slower.
"""

import json
import math
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from timing import compare, write_report

import pnpkit as pk
from pnpkit.operators import NonCartesianMRI

SIZE, SPOKES, SAMPLES, COILS = (256, 256), 98, 512, 8
ROUNDS, REPEATS = 3, 15
LIBRARIES = (
    "pnpkit, eps 1e-4", "pnpkit, eps 1e-6", "finufft plan alone, eps 1e-4", "torchkbnufft, table", "sigpy",
    "deepinv, eps 1e-6", "pnpkit, normal operator", "the two FFTs in it",
)  # fmt: skip
Call = Callable[[], Any]
Contestant = tuple[Call, Call | None, Call | None]  # forward, adjoint, forward's (coils, M) with our scale


def exact(x: torch.Tensor, trajectory: torch.Tensor) -> torch.Tensor:
    """The sum itself for images (C, H, W), float64."""
    rows, columns = (torch.arange(n, dtype=torch.float64) - n // 2 for n in SIZE)
    left = torch.exp(-2j * math.pi * trajectory[:, :1].double() * rows / SIZE[0])
    right = torch.exp(-2j * math.pi * trajectory[:, 1:].double() * columns / SIZE[1])
    return torch.einsum("mh,chw,mw->cm", left, x.to(torch.complex128), right) / math.sqrt(x[0].numel())


def contestant(
    library: str, trajectory: torch.Tensor, maps: torch.Tensor, x: torch.Tensor, y: torch.Tensor
) -> Contestant:
    """A library's calls; plans are made before."""
    name, _, how = library.partition(", ")
    coils, scale = (maps * x)[0], 1 / math.sqrt(SIZE[0] * SIZE[1])
    flat, samples = np.ascontiguousarray(coils.numpy()), np.ascontiguousarray(y[0].numpy())
    points = [np.ascontiguousarray(2 * np.pi * trajectory[:, d].numpy() / n) for d, n in enumerate(SIZE)]
    if name == "pnpkit":
        eps = 1e-6 if how == "eps 1e-6" else 1e-4
        a = NonCartesianMRI(trajectory=trajectory, shape=(1, *SIZE), maps=maps, eps=eps)
        if how == "normal operator":
            return lambda: a.normal(x), None, None
        return lambda: a(x), lambda: a.adjoint(y), lambda: a(x)[0]
    if name == "finufft plan alone":
        import finufft

        options = {"eps": 1e-4, "dtype": "complex64", "nthreads": torch.get_num_threads()}
        to, back = finufft.Plan(2, SIZE, COILS, isign=-1, **options), finufft.Plan(1, SIZE, COILS, isign=1, **options)
        to.setpts(*points), back.setpts(*points)
        return (
            lambda: to.execute(flat),
            lambda: back.execute(samples),
            lambda: torch.from_numpy(to.execute(flat)) * scale,
        )
    if name == "torchkbnufft":
        import torchkbnufft as tkbn

        omega = torch.from_numpy(np.stack(points)).float()
        kb, kb_adjoint = tkbn.KbNufft(im_size=SIZE), tkbn.KbNufftAdjoint(im_size=SIZE)
        return (
            lambda: kb(x, omega, smaps=maps[None]),
            lambda: kb_adjoint(y, omega, smaps=maps[None]),
            lambda: kb(x, omega, smaps=maps[None])[0] * scale,
        )
    if name == "sigpy":
        import sigpy

        coordinates = trajectory.numpy()
        return (
            lambda: sigpy.nufft(flat, coordinates),
            lambda: sigpy.nufft_adjoint(samples, coordinates, (COILS, *SIZE)),
            lambda: torch.from_numpy(sigpy.nufft(flat, coordinates)),
        )
    if name == "deepinv":  # its own radial trajectory of as many samples, at its fixed eps of 1e-6
        import deepinv

        shots = {"num_shots": SPOKES, "num_samples_per_shot": SAMPLES, "coil_maps": maps}
        physics = deepinv.physics.NonCartesianMRI(img_size=SIZE, **shots)
        pair = torch.view_as_real(x[:, 0]).movedim(-1, 1).contiguous()
        measured = physics.A(pair)
        return lambda: physics.A(pair), lambda: physics.A_adjoint(measured), None
    double = torch.randn(1, COILS, *(2 * n for n in SIZE), dtype=torch.complex64)
    return lambda: torch.fft.ifft2(torch.fft.fft2(double)), None, None


@torch.no_grad()
def measured(library: str, threads: int) -> dict[str, Any]:
    """Milliseconds each way, and the error, in this process."""
    torch.set_num_threads(threads)
    trajectory = pk.make("radial_trajectory", shape=SIZE, spokes=SPOKES, samples=SAMPLES)
    maps = pk.make("birdcage_maps", shape=(COILS, *SIZE))
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(1, 1, *SIZE, dtype=torch.complex64, generator=rng)
    y = torch.randn(1, COILS, len(trajectory), dtype=torch.complex64, generator=rng)
    forward, adjoint, value = contestant(library, trajectory, maps, x, y)
    found: dict[str, Any] = {"forward ms": 1e3 * compare({"it": forward}, REPEATS, threads)["it"]}
    if adjoint:
        found["adjoint ms"] = 1e3 * compare({"it": adjoint}, REPEATS, threads)["it"]
    if value:
        some = torch.randperm(len(trajectory), generator=rng)[:200]
        truth = exact((maps * x)[0], trajectory[some])
        found["error"] = f"{float((value()[:, some] - truth).norm() / truth.norm()):.1e}"
    return found


def elsewhere(library: str, threads: int) -> dict[str, Any]:
    """``measured`` in a process of its own."""
    done = subprocess.run([sys.executable, __file__, library, str(threads)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{library}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    rows = []
    for threads in (4, 1):
        rounds = [{library: elsewhere(library, threads) for library in LIBRARIES} for _ in range(ROUNDS)]
        for library in LIBRARIES:
            told = [r[library] for r in rounds]
            row: dict[str, Any] = {"threads": threads, "library": library}
            for way in ("forward ms", "adjoint ms"):
                row[way] = statistics.median(t[way] for t in told) if way in told[0] else None
            rows.append(row | {"error": told[0].get("error")})
    notes = [
        f"{SIZE[0]}×{SIZE[1]}, {SPOKES * SAMPLES} samples, {COILS} coils, complex64, plans made before; medians of "
        f"{ROUNDS} processes' medians of {REPEATS} calls.",
        "error: relative, on 200 samples, against the exact sum in float64. sigpy's and the bare plan's times are "
        "without the coil maps. The normal operator's row: one call in the column of the forward one.",
        "deepinv calls the same finufft through mri-nufft, on as many threads as there are in both cases.",
    ]
    write_report("nufft", rows, "python benchmarks/nufft.py", notes, title="Non-uniform Fourier transforms")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measured(sys.argv[1], int(sys.argv[2]))))
    else:
        main()
