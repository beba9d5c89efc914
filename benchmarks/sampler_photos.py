"""All samplers on photographs with one network: PNPKIT_DATA=… python benchmarks/sampler_photos.py

The shipped prior ``photos`` on 20 crops 64×64 of Set5 and Set14, which it never saw; four problems, two noise levels;
every sampler with its defaults, HQS (score-PnP) beside them, and deepinv's DPS and DiffPIR with the same network and
number of calls, at the best of five weights (chosen on four other crops), and ours at the best of five settings.
"""

import time

import torch
from data import images
from timing import write_report

import pnpkit as pk
from pnpkit import registry
from pnpkit.bridges.deepinv import denoiser_to_deepinv
from pnpkit.metrics.image import psnr, ssim
from pnpkit.metrics.perceptual import haarpsi
from pnpkit.operators import Blur, Inpainting, SuperResolution
from pnpkit.operators.base import LinearOperator
from pnpkit.priors.base import Denoiser
from pnpkit.problem import Problem
from pnpkit.solvers.annealed_langevin import AnnealedLangevin
from pnpkit.solvers.base import Solver
from pnpkit.solvers.diffpir import DiffPIR
from pnpkit.solvers.dps import DPS
from pnpkit.solvers.hqs import HQS
from pnpkit.solvers.pnp_dm import PnPDM

SIDE, STEPS = 64, 100
SHAPE = (3, SIDE, SIDE)
WEIGHTS = {
    "DPS": (0.3, 1.0, 10.0, 100.0, 1000.0),
    "DiffPIR": (1.0, 3.0, 7.0, 15.0, 40.0),
}  # deepinv's
TUNED: dict[str, tuple[Solver, ...]] = {  # ours, five settings each
    "dps": tuple(DPS(weight=w, eta=e) for w, e in ((1, 1), (3, 1), (1, 0), (3, 0), (10, 0))),
    "diffpir": tuple(DiffPIR(lam=lam, zeta=z) for lam, z in ((1, 0.1), (3, 0.1), (7, 0.1), (15, 0.1), (7, 0.5))),
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
    langevin = AnnealedLangevin(n_steps=75, inner_steps=4)
    return known | {
        "annealed_langevin": langevin,
        "pnp_dm": PnPDM(n_steps=50, burn_in=35, prior_steps=6),
        "hqs": HQS(n_steps=20),
    }


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


def cell(task: str, operator: LinearOperator, sigma: float, prior, x: torch.Tensor) -> list[dict]:
    test, tuning = measured(operator, x[:20], sigma, 2), measured(operator, x[20:], sigma, 3)
    rows = []
    head = {"problem": task, "noise": sigma}
    for name, solver in solvers().items():
        result = pk.solve(test, prior, solver, seed=0)
        x_found = result.x if result.samples is None else result.samples[-1]
        row = head | {"method": name} | judged(x_found, x[:20])
        if result.samples is not None and len(result.samples) > 1:
            row["mean's PSNR"] = float(psnr(result.x, x[:20], 1.0).mean())
        rows.append(row | {"calls": result.calls["prior"], "s": result.seconds})
        print(rows[-1], flush=True)
    for name, candidates in TUNED.items():
        solver = max(candidates, key=lambda s: float(psnr(pk.solve(tuning, prior, s).x, x[20:], 1.0).mean()))
        result = pk.solve(test, prior, solver, seed=0)
        chosen = ", ".join(
            f"{k} {getattr(solver, k):g}" for k in (("weight", "eta") if name == "dps" else ("lam", "zeta"))
        )
        row = head | {"method": f"{name}: {chosen}"} | judged(result.x, x[:20])
        rows.append(row | {"calls": result.calls["prior"], "s": result.seconds})
        print(rows[-1], flush=True)
    physics = physics_of(operator, sigma)
    for name, weights in WEIGHTS.items():
        found = {w: run_theirs(name, w, prior, tuning, physics, sigma) for w in weights}
        scores = {w: float(psnr(v, x[20:], 1.0).nan_to_num(-99).mean()) for w, v in found.items()}
        best = max(scores, key=scores.get)  # type: ignore[arg-type]
        began = time.perf_counter()
        got = run_theirs(name, best, prior, test, physics, sigma)
        seconds = time.perf_counter() - began
        row = head | {"method": f"deepinv {name}, {best:g}"} | judged(got, x[:20])
        rows.append(row | {"calls": STEPS - (name == "DPS"), "s": seconds})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    torch.set_num_threads(3)
    prior, x = registry.build("priors", {"name": "unet", "weights": "photos", "arithmetic": "bfloat16"}), crops()
    rows = [row for task, op in operators().items() for s in (0.01, 0.05) for row in cell(task, op, s, prior, x)]
    notes = [
        "n = 20 crops, one seed; ± standard error of the mean over crops. One sample of each sampler; `mean's PSNR` is "
        "of the mean of the draws that a chain kept. HaarPSI: perceptual, 1 is perfect. Seconds for the 20 together, "
        "three threads, the network in bfloat16. calls: of the network, whole batch.",
        "DPS, PiGDM and deepinv's DPS also differentiate through the network. DiffPIR's and DPS's weights for deepinv: "
        + "; ".join(f"{n} {', '.join(f'{w:g}' for w in ws)}" for n, ws in WEIGHTS.items())
        + ".",
    ]
    write_report(
        "sampler_photos", rows, "PNPKIT_DATA=… python benchmarks/sampler_photos.py", notes, "Samplers on photographs"
    )


if __name__ == "__main__":
    main()
