"""Non-uniform Fourier transforms side by side: python benchmarks/nufft.py

256×256, 50,176 golden-angle radial samples, 8 coils, complex64: pnpkit, torchkbnufft, sigpy, deepinv, a bare finufft
plan; errors against the exact sum on 200 samples. Then the normal operator beside the FFTs it contains.
"""

import math
from collections.abc import Callable

import finufft
import numpy as np
import torch
from timing import compare, write_report

import pnpkit as pk
from pnpkit.operators import NonCartesianMRI

SIZE, SPOKES, SAMPLES, COILS = (256, 256), 98, 512, 8
Call = Callable[[], object]


def exact(x: torch.Tensor, trajectory: torch.Tensor) -> torch.Tensor:
    """The sum itself for images (C, H, W), float64."""
    rows, columns = (torch.arange(n, dtype=torch.float64) - n // 2 for n in SIZE)
    left = torch.exp(-2j * math.pi * trajectory[:, :1].double() * rows / SIZE[0])
    right = torch.exp(-2j * math.pi * trajectory[:, 1:].double() * columns / SIZE[1])
    return torch.einsum("mh,chw,mw->cm", left, x.to(torch.complex128), right) / math.sqrt(x[0].numel())


def contestants(trajectory: torch.Tensor, maps: torch.Tensor, x: torch.Tensor, y: torch.Tensor, peers: bool) -> dict:
    """name -> (forward, adjoint, forward's result as (coils, M) with our scale); the peers too, or finufft alone."""
    found: dict[str, tuple[Call, Call, Callable[[], torch.Tensor]]] = {}
    for eps in (1e-4, 1e-6):
        a = NonCartesianMRI(trajectory=trajectory, shape=(1, *SIZE), maps=maps, eps=eps)
        found[f"pnpkit, eps {eps:g}"] = (lambda a=a: a(x), lambda a=a: a.adjoint(y), lambda a=a: a(x)[0])
    coils, scale = (maps * x)[0], 1 / math.sqrt(SIZE[0] * SIZE[1])
    flat = np.ascontiguousarray(coils.numpy())
    points = [np.ascontiguousarray(2 * np.pi * trajectory[:, d].numpy() / n) for d, n in enumerate(SIZE)]
    options = {"eps": 1e-4, "dtype": "complex64", "nthreads": torch.get_num_threads()}
    to, back = finufft.Plan(2, SIZE, COILS, isign=-1, **options), finufft.Plan(1, SIZE, COILS, isign=1, **options)
    to.setpts(*points), back.setpts(*points)
    samples = np.ascontiguousarray(y[0].numpy())
    found["finufft plan alone, eps 1e-4"] = (
        lambda: to.execute(flat),
        lambda: back.execute(samples),
        lambda: torch.from_numpy(to.execute(flat)) * scale,
    )
    if not peers:
        return found
    import deepinv
    import sigpy
    import torchkbnufft as tkbn

    omega = torch.from_numpy(np.stack(points)).float()
    kb, kb_adjoint = tkbn.KbNufft(im_size=SIZE), tkbn.KbNufftAdjoint(im_size=SIZE)
    found["torchkbnufft, table"] = (
        lambda: kb(x, omega, smaps=maps[None]),
        lambda: kb_adjoint(y, omega, smaps=maps[None]),
        lambda: kb(x, omega, smaps=maps[None])[0] * scale,
    )
    coordinates = trajectory.numpy()
    found["sigpy"] = (
        lambda: sigpy.nufft(flat, coordinates),
        lambda: sigpy.nufft_adjoint(samples, coordinates, (COILS, *SIZE)),
        lambda: torch.from_numpy(sigpy.nufft(flat, coordinates)),
    )
    try:  # its own radial trajectory of as many samples, at its fixed eps of 1e-6
        shots = {"num_shots": SPOKES, "num_samples_per_shot": SAMPLES, "coil_maps": maps}
        physics = deepinv.physics.NonCartesianMRI(img_size=SIZE, **shots)
    except ImportError:
        print("deepinv.physics.NonCartesianMRI needs mri-nufft: pip install mri-nufft")
        return found
    pair = torch.view_as_real(x[:, 0]).movedim(-1, 1).contiguous()
    measured = physics.A(pair)
    found["deepinv, eps 1e-6"] = (lambda: physics.A(pair), lambda: physics.A_adjoint(measured), lambda: None)
    return found


def main() -> None:
    trajectory = pk.make("radial_trajectory", shape=SIZE, spokes=SPOKES, samples=SAMPLES)
    maps = pk.make("birdcage_maps", shape=(COILS, *SIZE))
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(1, 1, *SIZE, dtype=torch.complex64, generator=rng)
    y = torch.randn(1, COILS, len(trajectory), dtype=torch.complex64, generator=rng)
    some = torch.randperm(len(trajectory), generator=rng)[:200]
    truth = exact((maps * x)[0], trajectory[some])
    rows = []
    for threads in (4, 1):  # in this order: the peers' thread pools slow down everybody's four threads
        torch.set_num_threads(threads)
        them = contestants(trajectory, maps, x, y, peers=threads == 1)
        with torch.no_grad():
            calls = {f"{n} {w}": c for n, parts in them.items() for w, c in zip(("to", "back"), parts[:2], strict=True)}
            seconds = compare(calls, 9, threads)
            for name, (_, _, value) in them.items():
                out = value()
                error = None if out is None else float((out[:, some] - truth).norm() / truth.norm())
                rows.append(
                    {
                        "threads": threads,
                        "library": name,
                        "forward ms": 1e3 * seconds[f"{name} to"],
                        "adjoint ms": 1e3 * seconds[f"{name} back"],
                        "error": None if error is None else f"{error:.1e}",
                    }
                )
        a = NonCartesianMRI(trajectory=trajectory, shape=(1, *SIZE), maps=maps)
        double = torch.randn(1, COILS, 512, 512, dtype=torch.complex64, generator=rng)
        with torch.no_grad():
            pair = {"normal": lambda: a.normal(x), "ffts": lambda: torch.fft.ifft2(torch.fft.fft2(double))}  # noqa: B023
            seconds = compare(pair, 15, threads)
        rows.append({"threads": threads, "library": "pnpkit, normal operator", "forward ms": 1e3 * seconds["normal"]})
        rows.append({"threads": threads, "library": "the two FFTs in it", "forward ms": 1e3 * seconds["ffts"]})
    notes = [
        f"{SIZE[0]}×{SIZE[1]}, {len(trajectory)} samples, {COILS} coils, complex64, medians of 9, plans made before.",
        "error: relative, on 200 samples, against the exact sum in float64. sigpy's and the bare plan's times are "
        "without the coil maps. The normal operator's row: one call in the column of the forward one.",
        "Four threads: called in a loop of its own pnpkit takes 5.3 ms each way, as the bare plan does; interleaved "
        "with others, as here, three times that: torch's and finufft's thread pools are in each other's way.",
    ]
    write_report("nufft", rows, "python benchmarks/nufft.py", notes, title="Non-uniform Fourier transforms")


if __name__ == "__main__":
    main()
