"""Blind deblurring with the shipped priors: PNPKIT_DATA=… python benchmarks/blind_deblurring.py

20 grey crops 64×64 of Set12 and Set14 that no prior saw, blurred (circularly): the even ones by anisotropic Gaussians,
the odd ones by short motion paths (7 to 11 pixels), the even ones again by paths of 11 to 17 pixels (published tests:
61 of 256 pixels, which is 15 of 64). Blind-PnPDM and BlindDPS with the same two networks, beside PnP-DM that knows the
kernel, blind Richardson–Lucy, and the blurred image.
"""

import argparse
import json
from dataclasses import replace

import torch
from data import images
from timing import RESULTS, write_report

import pnpkit as pk
from pnpkit.metrics.aligned import psnr_aligned, ssim_aligned
from pnpkit.operators import Blur
from pnpkit.operators.makers.kernels import anisotropic_gaussian_kernel, motion_kernel
from pnpkit.priors import Rescale, UnitSum
from pnpkit.problem import Problem
from pnpkit.solvers.blind import finest, joint_energy
from pnpkit.solvers.blind_dps import BlindDPS
from pnpkit.solvers.blind_pnp_dm import BlindPnPDM
from pnpkit.solvers.pnp_dm import PnPDM

SIDE, SIZE, COUNT, CHAINS = 64, 32, 20, 8
SHARED = 25  # steps that the chains of one more run of Blind-PnPDM take as one
SHAPE = (1, SIDE, SIDE)
FAMILIES = {"Gaussian": slice(0, 20, 2), "short motion": slice(1, 20, 2), "motion": slice(20, 30)}  # where each lies


def crops() -> torch.Tensor:
    rng, pictures = torch.Generator().manual_seed(0), [*images("set12").values(), *images("set14").values()][:COUNT]
    found = []
    for x in pictures:
        top, left = (int(torch.randint(0, n - SIDE + 1, (1,), generator=rng)) for n in x.shape[-2:])
        found.append(x[..., top : top + SIDE, left : left + SIDE])
    return torch.cat([*found, *found[FAMILIES["Gaussian"]]])


def kernels() -> torch.Tensor:
    """(30, 1, 32, 32), by ``FAMILIES``; the standard deviations of the Gaussians are 0.8 to 2.2 pixels."""
    rng, found = torch.Generator().manual_seed(77), []
    for i in range(COUNT):
        a, b, c = torch.rand(3, generator=rng).tolist()
        if i % 2 == 0:
            kernel = anisotropic_gaussian_kernel(SIZE, 0.8 + 1.4 * a, 0.8 + 1.4 * b, angle_deg=180 * c)
        else:
            kernel = path(7 + 2 * int(3 * a), seed=90_000 + i, roughness=0.2 + b)
        found.append(kernel / kernel.sum())
    rng.manual_seed(78)
    for i in range(COUNT // 2):
        a, b = torch.rand(2, generator=rng).tolist()
        found.append(path(11 + 2 * int(4 * a), seed=91_000 + i, roughness=0.2 + b))
    return torch.stack(found)


def path(size: int, seed: int, roughness: float) -> torch.Tensor:
    """A motion path of ``size`` pixels in the middle of (1, 32, 32)."""
    before, kernel = SIZE // 2 - size // 2, torch.zeros(1, SIZE, SIZE)
    drawn = motion_kernel(size=size, seed=seed, roughness=roughness)
    kernel[:, before : before + size, before : before + size] = drawn
    return kernel


def kernel_error(k: torch.Tensor, ref: torch.Tensor) -> torch.Tensor:
    """‖k − ref‖/‖ref‖ after the best circular shift, (B,)."""
    spectrum = torch.fft.rfft2(k) * torch.fft.rfft2(ref).conj()
    match = torch.fft.irfft2(spectrum, s=(SIZE, SIZE)).flatten(1).amax(1)
    energy = [t.square().flatten(1).sum(1) for t in (k, ref)]
    return ((energy[0] - 2 * match + energy[1]).clamp_min(0) / energy[1]).sqrt()


def richardson_lucy(y: torch.Tensor, rounds: int = 20, inner: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Blind Richardson–Lucy (Fish et al., JOSA A 12, 1995): multiplicative steps on kernel and image in turn."""
    y = y.clamp_min(1e-3)
    x, k = y.clone(), torch.full((len(y), 1, SIZE, SIZE), 1 / SIZE**2)
    for _ in range(rounds):
        for _ in range(inner):
            m = Blur(kernel=k, shape=SHAPE).in_theta("kernel", x)
            k = k * m.adjoint(y / m(k).clamp_min(1e-6)) / x.sum((-2, -1), keepdim=True)
            k = k.clamp_min(0) / k.clamp_min(0).sum((-2, -1), keepdim=True)
        for _ in range(inner):
            a = Blur(kernel=k, shape=SHAPE)
            x = x * a.adjoint(y / a(x).clamp_min(1e-6))
    return x, k


Found = dict[str, tuple[torch.Tensor, torch.Tensor | None, float]]  # image, kernel, seconds by name


def study(sigma: float, methods: list[str]) -> list[dict]:
    x, truth = crops(), kernels()
    y = Blur(kernel=truth, shape=SHAPE)(x)
    y = y + sigma * torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    prior = pk.prior({"name": "photos_gray", "arithmetic": "bfloat16", "backend": "auto"})
    on_paths = pk.prior({"name": "blur_kernels", "backend": "auto"})
    on_kernels = UnitSum(Rescale(denoiser=on_paths, inner=(0.0, 1.0), outer=(0.0, 0.1)))
    priors = pk.Priors(x=prior, theta=on_kernels)
    known = Problem(Blur(kernel=truth, shape=SHAPE), pk.Gaussian(sigma), y)
    unknown = known.at(kernel=torch.full_like(truth, 1 / SIZE**2))  # its kernel is not used

    oracle = pk.solve(known, prior, PnPDM(n_steps=50, burn_in=35, prior_steps=6, rho_end=0.02))
    found: Found = {"blurred": (y, None, 0.0)}
    found["PnP-DM, kernel known, mean"] = oracle.x, truth, oracle.seconds
    found["PnP-DM, kernel known, sample"] = oracle.samples[-1], truth, oracle.seconds
    for method in methods:
        found |= METHODS[method](unknown, priors, truth)
    known_best = psnr_aligned(oracle.x, x, 1.0)
    return [row for name, values in found.items() for row in judged(sigma, name, *values, x, truth, known_best)]


def by_richardson_lucy(unknown: Problem, priors: pk.Priors, truth: torch.Tensor) -> Found:
    return {"blind Richardson–Lucy": (*richardson_lucy(unknown.y), 0.0)}


def by_dps(unknown: Problem, priors: pk.Priors, truth: torch.Tensor) -> Found:
    result = pk.solve(unknown, priors, BlindDPS(n_steps=150))
    return {"BlindDPS": (result.x, result.theta, result.seconds)}


def by_pnp_dm(unknown: Problem, priors: pk.Priors, truth: torch.Tensor) -> Found:
    blind = pk.solve(unknown, priors, BlindPnPDM.preset("deblurring"), chains=CHAINS)
    last = [s.unflatten(0, (CHAINS, -1))[:, -1] for s in (blind.samples, blind.theta_samples)]
    best = picked(last[0], blind.energy), picked(last[1], blind.energy)
    errors = torch.stack([kernel_error(k, truth) for k in last[1]])
    nearest = picked(last[0], errors.T), picked(last[1], errors.T)
    refined = pk.solve(unknown.at(kernel=blind.theta), priors, BlindPnPDM.preset("refinement"))
    seconds = blind.seconds + refined.seconds
    return {
        "Blind-PnPDM, 1 chain, sample": (last[0][0], last[1][0], blind.seconds / CHAINS),
        f"Blind-PnPDM, best of {CHAINS}, sample": (*best, blind.seconds),
        f"Blind-PnPDM, best of {CHAINS}, mean": (blind.x, blind.theta, blind.seconds),
        f"Blind-PnPDM, chain with the best kernel of {CHAINS}": (*nearest, blind.seconds),
        f"Blind-PnPDM, best of {CHAINS}, refined, sample": (refined.samples[-1], refined.theta_samples[-1], seconds),
        f"Blind-PnPDM, best of {CHAINS}, refined, mean": (refined.x, refined.theta, seconds),
    }


def by_two_starts(unknown: Problem, priors: pk.Priors, truth: torch.Tensor) -> Found:
    """Half of the restarts by each solver, the best of either refined, and the better one by energy."""
    ended, seconds = [], 0.0
    for solver in (BlindPnPDM.preset("deblurring"), BlindDPS(n_steps=150)):
        first = pk.solve(unknown, priors, solver, chains=CHAINS // 2)
        ended.append(pk.solve(unknown.at(kernel=first.theta), priors, BlindPnPDM.preset("refinement")))
        seconds += first.seconds + ended[-1].seconds
    energy = torch.stack([mean_energy(unknown, priors, found) for found in ended], 1)
    x, k = (picked(torch.stack([getattr(found, n) for found in ended]), energy) for n in ("x", "theta"))
    name = f"{CHAINS // 2} Blind-PnPDM and {CHAINS // 2} BlindDPS, the best of each refined, the better one, mean"
    return {name: (x, k, seconds)}


def mean_energy(problem: Problem, priors: pk.Priors, refined: pk.Result, every: int = 3) -> torch.Tensor:
    """Over the last draw of every cycle, (B,): one draw's energy varies by more than solutions differ."""
    rng, found = torch.Generator().manual_seed(0), []
    for x, k in zip(refined.samples[every - 1 :: every], refined.theta_samples[every - 1 :: every], strict=True):
        with torch.no_grad():
            found.append(joint_energy(problem, priors, "kernel", x, k, finest(problem, priors, x, k), rng))
    return torch.stack(found).mean(0)


def by_pnp_dm_with_shared_steps(unknown: Problem, priors: pk.Priors, truth: torch.Tensor) -> Found:
    solver = replace(BlindPnPDM.preset("deblurring"), shared_steps=SHARED)
    result = pk.solve(unknown, priors, solver, chains=CHAINS)
    name = f"Blind-PnPDM, {SHARED} of {solver.n_steps} steps shared, best of {CHAINS}, mean"
    return {name: (result.x, result.theta, result.seconds)}


METHODS = {
    "richardson_lucy": by_richardson_lucy,
    "dps": by_dps,
    "pnp_dm": by_pnp_dm,
    "starts": by_two_starts,
    "shared": by_pnp_dm_with_shared_steps,
}


def picked(chains: torch.Tensor, energy: torch.Tensor) -> torch.Tensor:
    """Of (C, B, …) the chain of each sample with the least energy (B, C)."""
    return chains[energy.argmin(1), torch.arange(chains.shape[1])]


def judged(
    sigma: float, name: str, x, k, seconds: float, ref: torch.Tensor, truth: torch.Tensor, known_best: torch.Tensor
) -> list[dict]:
    quality, similarity = psnr_aligned(x, ref, 1.0), ssim_aligned(x, ref, 1.0)
    error = None if k is None else kernel_error(k, truth)
    rows = []
    for label, part in FAMILIES.items():
        row = {"noise": sigma, "kernels": label, "method": name, "PSNR": float(quality[part].mean())}
        row |= {"± s.e.": float(quality[part].std() / 10**0.5), "SSIM": float(similarity[part].mean())}
        row |= {"within 1.5 dB": f"{int((quality[part] >= known_best[part] - 1.5).sum())} of 10"}
        if error is not None:
            row |= {"kernel error": float(error[part].mean())}
            row |= {"within 0.35": f"{int((error[part] <= 0.35).sum())} of 10"}
        rows.append(row | ({"s": seconds, "threads": torch.get_num_threads()} if seconds else {}))
        print(rows[-1], flush=True)
    return rows


def merged(new: list[dict]) -> list[dict]:
    """The rows of the table as it is, with these in the place of their own or after them."""
    file = RESULTS / "blind_deblurring.json"
    rows = json.loads(file.read_text())["rows"] if file.is_file() else []
    table = {(row["noise"], row["method"], row["kernels"]): row for row in [*rows, *new]}
    return sorted(table.values(), key=lambda row: row["noise"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.02, 0.05])
    parser.add_argument("--methods", choices=METHODS, nargs="+", default=list(METHODS), help="other rows are kept")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    notes = [
        "10 images of each row, one seed; ± standard error. PSNR and SSIM 8 pixels away from the border after the "
        "best shift of at most 6 pixels; kernel error ‖k − k₀‖/‖k₀‖ after the best shift; within 1.5 dB: of the mean "
        "of PnP-DM that knows the kernel. Seconds for all 30, the networks in C++ where it is built, that of images in "
        "bfloat16; taken beside other work, and rows of different threads are of different runs.",
        "best of 8: by energy, which uses no truth; the chain with the best kernel is what a better choice could give. "
        "refined: the best of 8 by energy, then one run of the preset refinement from its kernel; seconds of both. "
        "The better one: by the energy of the draws at the ends of the cycles, averaged.",
    ]
    command = f"PNPKIT_DATA=… python benchmarks/blind_deblurring.py --threads {options.threads}"
    for sigma in options.noise:
        write_report("blind_deblurring", merged(study(sigma, options.methods)), command, notes, "Blind deblurring")


if __name__ == "__main__":
    main()
