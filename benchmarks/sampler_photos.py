"""All samplers on photographs with one network: PNPKIT_DATA=… python benchmarks/sampler_photos.py [RUNS_FOLDER]

The shipped prior ``photos`` on 20 crops 64×64 of Set5 and Set14, which it never saw; four problems, two noise levels;
every sampler with its defaults, HQS (score-PnP) beside them. Then DPS and DiffPIR, ours and deepinv's, with the same
network and number of calls, each at the best of five settings (chosen on four other crops), and their seconds side by
side. RUNS_FOLDER keeps what is done: the same command goes on.
"""

import argparse
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from data import images
from diff_unfolding import Kept
from timing import compare, write_report

import pnpkit as pk
from pnpkit import registry
from pnpkit.bridges.deepinv import denoiser_to_deepinv
from pnpkit.metrics.image import psnr, ssim
from pnpkit.metrics.perceptual import haarpsi
from pnpkit.metrics.uncertainty import coverage
from pnpkit.operators import Blur, Inpainting, SuperResolution
from pnpkit.operators.base import LinearOperator
from pnpkit.priors.base import Denoiser
from pnpkit.problem import Problem
from pnpkit.solvers.annealed_langevin import AnnealedLangevin
from pnpkit.solvers.base import Solver
from pnpkit.solvers.ddnm import DDNM
from pnpkit.solvers.diffpir import DiffPIR
from pnpkit.solvers.dps import DPS
from pnpkit.solvers.hqs import HQS
from pnpkit.solvers.pigdm import PiGDM
from pnpkit.solvers.pnp_dm import PnPDM

SIDE, STEPS, TEST = 64, 100, 20
SHAPE = (3, SIDE, SIDE)
WEIGHTS = {"DPS": (10.0, 30.0, 100.0, 300.0, 1000.0), "DiffPIR": (1.0, 3.0, 7.0, 15.0, 40.0)}  # deepinv's
CALLS = {"DPS": STEPS - 1, "DiffPIR": STEPS}  # of the network, by deepinv's with STEPS; ours make as many
DPS_SETTINGS = ((0.5, 1), (1, 1), (2, 1), (3, 1), (3, 0))  # weight, eta
DIFFPIR_SETTINGS = ((0.5, 1), (1, 1), (2, 1), (5, 1), (7, 0.5))  # lam, zeta
TUNED: dict[str, tuple[Solver, ...]] = {
    "dps": tuple(DPS(n_steps=CALLS["DPS"], weight=w, eta=e) for w, e in DPS_SETTINGS),
    "diffpir": tuple(DiffPIR(n_steps=CALLS["DiffPIR"], lam=m, zeta=z) for m, z in DIFFPIR_SETTINGS),
}


def crops() -> torch.Tensor:
    """One crop of each of the 19 images, with a seed of its own, and second ones: (24, 3, 64, 64); the last 4 tune."""
    rng, pictures = torch.Generator().manual_seed(0), [*images("set5", 3).values(), *images("set14", 3).values()]
    found = []
    for x in [*pictures, *pictures[:5]]:
        top, left = (int(torch.randint(0, n - SIDE + 1, (1,), generator=rng)) for n in x.shape[-2:])
        found.append(x[..., top : top + SIDE, left : left + SIDE])
    return torch.cat(found)


def operators() -> dict[str, LinearOperator]:
    rng = torch.Generator().manual_seed(1)
    kernel = pk.make("gaussian_kernel", size=9, std=1.5)
    box = torch.ones(1, SIDE, SIDE)
    box[:, 20:44, 20:44] = 0
    return {
        "blur": Blur(kernel=kernel, shape=SHAPE),
        "×4": SuperResolution(kernel=pk.make("bicubic_kernel", factor=4), factor=4, shape=SHAPE),
        "box": Inpainting(mask=box, shape=SHAPE),
        "random 70 %": Inpainting(mask=(torch.rand(1, SIDE, SIDE, generator=rng) > 0.7).float(), shape=SHAPE),
    }


def solvers() -> dict[str, Solver]:
    known = {n: registry.solver(n) for n in ("dps", "pigdm", "ddrm", "ddnm", "diffpir", "daps", "red_diff")}
    return known | {
        "annealed_langevin": AnnealedLangevin(n_steps=50, inner_steps=2),
        "pnp_dm": PnPDM(n_steps=30, burn_in=21, prior_steps=5),
        "hqs": HQS(n_steps=20),
    }


def told(solver: Solver) -> str:
    """The settings that are not the defaults."""
    plain = type(solver)()
    return ", ".join(f"{n} {v:g}" for n, v in dict(solver.spec).items() if v != getattr(plain, n))


def measured(operator: LinearOperator, x: torch.Tensor, sigma: float, seed: int) -> Problem:
    y = operator(x)
    return Problem(
        operator, pk.Gaussian(sigma), y + sigma * torch.randn(y.shape, generator=torch.Generator().manual_seed(seed))
    )


def physics_of(operator: LinearOperator, sigma: float):
    """deepinv's own object for the operator: its closed forms, not ours."""
    import deepinv as dinv

    noise = dinv.physics.GaussianNoise(sigma)
    if isinstance(operator, Inpainting):
        return dinv.physics.Inpainting(img_size=SHAPE, mask=operator.mask, noise_model=noise)
    if isinstance(operator, Blur):
        return dinv.physics.BlurFFT(img_size=SHAPE, filter=operator.kernel[None], noise_model=noise)
    from pnpkit.bridges.deepinv import to_deepinv

    return to_deepinv(operator, pk.Gaussian(sigma))


def run_theirs(name: str, weight: float, prior: Denoiser, problem: Problem, physics, sigma: float) -> torch.Tensor:
    import deepinv as dinv

    torch.manual_seed(0)
    network, y = denoiser_to_deepinv(prior, beyond="nearest"), problem.y.clone()
    if name == "DPS":
        method = dinv.sampling.DPS(network, weight=weight, num_steps=STEPS, dtype=torch.float32)
        return method(y, physics, x_init=torch.randn(len(y), *SHAPE)).detach().float()
    fidelity = dinv.optim.data_fidelity.L2()
    method = dinv.sampling.DiffPIR(network, fidelity, sigma=sigma, max_iter=STEPS, lambda_=weight)
    return method(y, physics).detach().float()


def judged(x: torch.Tensor, ref: torch.Tensor) -> dict:
    inside = x.clamp(0, 1)
    return {
        "PSNR": float(psnr(x, ref, 1.0).mean()), "± s.e.": float(psnr(x, ref, 1.0).std() / len(ref) ** 0.5),
        "SSIM": float(ssim(x, ref, 1.0).mean()), "HaarPSI": float(haarpsi(inside, ref).mean()),
    }  # fmt: skip


Make = Callable[[], dict[str, Any]]


def plain(solver: Solver, test: Problem, x: torch.Tensor) -> dict[str, Any]:
    """As ``solvers`` has it."""
    result = pk.solve(test, prior_of(), solver)
    found = judged(result.x if result.samples is None else result.samples[-1], x[:TEST])
    if result.samples is not None and len(result.samples) > 1:
        found["mean's PSNR"] = float(psnr(result.x, x[:TEST], 1.0).mean())
    return found | {"calls": result.calls["prior"], "s": result.seconds}


def tuned(candidates: tuple[Solver, ...], test: Problem, tune: Problem, x: torch.Tensor) -> dict[str, Any]:
    """Ours at the best of its settings."""
    solver = max(candidates, key=lambda s: float(psnr(pk.solve(tune, prior_of(), s).x, x[TEST:], 1.0).mean()))
    return plain(solver, test, x) | {"chosen": told(solver)}


def theirs(name: str, operator: LinearOperator, sigma: float, test: Problem, tune: Problem, x: torch.Tensor) -> dict:
    """deepinv's at the best of its weights."""
    physics = physics_of(operator, sigma)
    found = {w: run_theirs(name, w, prior_of(), tune, physics, sigma) for w in WEIGHTS[name]}
    best = max(found, key=lambda w: float(psnr(found[w], x[TEST:], 1.0).nan_to_num(-99).mean()))
    began = time.perf_counter()
    got = run_theirs(name, best, prior_of(), test, physics, sigma)
    return judged(got, x[:TEST]) | {
        "calls": CALLS[name],
        "s": time.perf_counter() - began,
        "chosen": f"weight {best:g}",
    }


def cells(task: str, operator: LinearOperator, sigma: float, x: torch.Tensor) -> dict[str, Make]:
    """{method: what makes its row}."""
    test, tune = measured(operator, x[:TEST], sigma, 2), measured(operator, x[TEST:], sigma, 3)
    found: dict[str, Make] = {n: partial(plain, s, test, x) for n, s in solvers().items()}
    found |= {f"{n}, best of five": partial(tuned, c, test, tune, x) for n, c in TUNED.items()}
    return found | {f"deepinv {n}, best of five": partial(theirs, n, operator, sigma, test, tune, x) for n in WEIGHTS}


def side_by_side(operator: LinearOperator, sigma: float, x: torch.Tensor, threads: int) -> dict[str, float]:
    """Milliseconds for a network call and what belongs to it, one crop: runs of all calls, in turns."""
    problem, physics = measured(operator, x, sigma, 3), physics_of(operator, sigma)
    runs: dict[str, Callable[[], object]] = {n: partial(pk.solve, problem, prior_of(), s[1]) for n, s in TUNED.items()}
    runs |= {f"deepinv {n}": partial(run_theirs, n, 7.0, prior_of(), problem, physics, sigma) for n in WEIGHTS}
    seconds = compare(runs, repeats=3, threads=threads, unmeasured=0)
    return {n: 1e3 * v / (CALLS["DPS" if "dps" in n.lower() else "DiffPIR"] * len(x)) for n, v in seconds.items()}


def spread_cells(x: torch.Tensor) -> dict[str, Make]:
    """How much the 90 % intervals of 19 samples hold of the crops for tuning: ×4, noise 0.05."""
    tune = measured(operators()["×4"], x[TEST:], 0.05, 3)
    solvers: dict[str, Solver] = {f"diffpir, {n} steps": DiffPIR(n_steps=n) for n in (50, 100, 200)}
    solvers |= {"the same with lam and zeta None, 50 steps": DiffPIR(n_steps=50, lam=None, zeta=None)}
    solvers |= {"annealed_langevin, 50 × 2 steps": AnnealedLangevin(n_steps=50, inner_steps=2)}
    solvers |= {"ddnm, 25 × 2 steps": DDNM(n_steps=25), "pigdm, 50 steps": PiGDM(n_steps=50)}

    def make(solver: Solver) -> dict[str, Any]:
        result = pk.solve(tune, prior_of(), solver, chains=19)
        return {"held": float(coverage(result.samples, x[TEST:], 0.9).mean())}

    return {name: partial(make, s) for name, s in solvers.items()}


@cache
def prior_of() -> Denoiser:
    return registry.build("priors", {"name": "unet", "weights": "photos", "arithmetic": "bfloat16", "backend": "auto"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="?", default=Path("runs"))
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    kept, x, rows = Kept(given.runs / "sampler_photos.json"), crops(), []
    for task, operator in operators().items():
        for sigma in (0.01, 0.05):
            for method, make in cells(task, operator, sigma, x).items():
                rows.append({"problem": task, "noise": sigma, "method": method})
                rows[-1] |= kept.get(f"{task}|{sigma:g}|{method}", make)
    timed = kept.get("time", partial(side_by_side, operators()["blur"], 0.01, x[TEST : TEST + 1], given.threads))
    held = {n: kept.get(f"held|{n}", make)["held"] for n, make in spread_cells(x).items()}
    notes = [
        "n = 20 crops, one seed; ± standard error of the mean over crops. One sample of each sampler; `mean's PSNR` is "
        "of the mean of the draws that a chain kept. HaarPSI: perceptual, 1 is perfect. calls: of the network, whole "
        f"batch. Seconds for the 20 together, {given.threads} threads, the network in bfloat16, in C++ where no "
        "gradient is asked of it; the machine was shared, so that they compare roughly.",
        "DPS, PiGDM and deepinv's DPS also differentiate through the network. The five settings: deepinv's weights "
        + "; ".join(f"{n} {', '.join(f'{w:g}' for w in ws)}" for n, ws in WEIGHTS.items())
        + f"; ours weight and eta {DPS_SETTINGS}, lam and zeta {DIFFPIR_SETTINGS}.",
        "Share of the pixels in the 90 % intervals of 19 samples, ×4 at noise 0.05, the four crops for tuning: "
        + ", ".join(f"{n} {100 * v:.0f} %" for n, v in held.items()) + ".",
        "Milliseconds for a call and what belongs to it, blur, one crop, medians of 3 runs in turns: "
        + ", ".join(f"{n} {v:.1f}" for n, v in timed.items()) + ".",
    ]  # fmt: skip
    command = f"PNPKIT_DATA=… python benchmarks/sampler_photos.py --threads {given.threads}"
    write_report("sampler_photos", rows, command, notes, "Samplers on photographs")


if __name__ == "__main__":
    main()
