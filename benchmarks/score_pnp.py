"""Score priors inside classical solvers: python benchmarks/score_pnp.py (needs PNPKIT_DATA)

Set12's 256×256 images in grey: the shipped score prior, FFDNet and DnCNN in HQS, PnP-ADMM, RED (gradient steps and
fixed point) and FISTA with restart; then large holes with and without injected noise. Strengths are chosen per solver
and prior on crops of two BSDS validation images, never on the test set.
"""

import itertools
import statistics
import tempfile
from pathlib import Path

import torch
from data import folder, images, levin_kernels
from timing import write_report

import pnpkit as pk
from pnpkit.io import read_image
from pnpkit.likelihoods import Gaussian
from pnpkit.metrics.image import psnr, ssim
from pnpkit.metrics.perceptual import haarpsi
from pnpkit.operators import Blur, Inpainting
from pnpkit.priors import DnCNN, FFDNet
from pnpkit.priors.base import Denoiser
from pnpkit.priors.weights import convert
from pnpkit.problem import Problem
from pnpkit.solvers import ADMM, FISTA, HQS, RED, REDFixedPoint
from pnpkit.solvers.base import Solver, solve

SIGMA = 0.02
GREY = torch.tensor([0.299, 0.587, 0.114]).reshape(3, 1, 1)
LAMS = (0.1, 0.25, 0.5, 1.0)
SOLVERS = ("HQS", "PnP-ADMM", "RED", "RED, fixed point", "FISTA")
THREADS = 1


def blur(size: int) -> Blur:
    return Blur(kernel=levin_kernels()[6], shape=(1, size, size))


def hole(size: int) -> Inpainting:
    """A box of 3/8 of each side missing in the middle."""
    mask, low, high = torch.ones(1, size, size), size * 5 // 16, size * 11 // 16
    mask[:, low:high, low:high] = 0
    return Inpainting(mask=mask)


def validation() -> list[torch.Tensor]:
    """Centres of two BSDS validation photographs, 128×128, grey."""
    files = sorted((folder() / "natural" / "bsds_val").glob("*.jpg"))[:2]
    return [(GREY * torch.from_numpy(read_image(f))).sum(0, keepdim=True)[None, :, 96:224, 164:292] for f in files]


def problem(operator: object, x: torch.Tensor, seed: int) -> Problem:
    noise = Gaussian(sigma=SIGMA)
    return Problem(operator, noise, noise.sample(operator(x), torch.Generator().manual_seed(seed)))  # type: ignore[operator]


def candidates(name: str, d: Denoiser) -> list[Solver]:
    """Settings to choose from, for one solver."""
    if name == "HQS":
        starts = (49 / 255, 100 / 255) if d.domain.sigma_range[1] > 0.39 else (49 / 255,)
        return [HQS(n_steps=20, sigma_start=s, lam=lam) for s, lam in itertools.product(starts, LAMS)]
    if name == "FISTA":
        low = d.domain.sigma_range[0]
        return [FISTA(n_steps=40, sigma=s) for s in (0.005, 0.01, 0.015, 0.02, 0.03, 0.05) if s >= low]
    pairs = list(itertools.product((0.015, 0.03), LAMS))
    if name == "PnP-ADMM":
        return [ADMM(n_steps=30, sigma_start=0.2, sigma=s, lam=lam) for s, lam in pairs]
    if name == "RED, fixed point":
        return [REDFixedPoint(n_steps=30, sigma=s, lam=lam) for s, lam in pairs]
    return [RED(n_steps=50, sigma=s, lam=lam) for s, lam in pairs]


def score(prior: Denoiser, solver: Solver, problems: list[tuple[Problem, torch.Tensor]]) -> dict[str, float]:
    found = [(solve(p, prior, solver, seed=0), x) for p, x in problems]
    return {
        "PSNR": statistics.mean(float(psnr(r.x, x, 1.0)) for r, x in found),
        "SSIM": statistics.mean(float(ssim(r.x, x, 1.0)) for r, x in found),
        "HaarPSI": statistics.mean(float(haarpsi(r.x.clamp(0, 1), x)) for r, x in found),
        "spread": statistics.stdev(float(psnr(r.x, x, 1.0)) for r, x in found),
        "calls": found[0][0].calls["prior"],
        "seconds": statistics.mean(r.seconds for r, _ in found),
    }


def best(prior: Denoiser, solvers: list[Solver], problems: list[tuple[Problem, torch.Tensor]]) -> Solver:
    return max(solvers, key=lambda s: score(prior, s, problems)["PSNR"])


def against_denoisers(priors: dict[str, Denoiser], test: list[torch.Tensor]) -> list[dict]:
    """Motion blur (Levin's kernel 7)."""
    rows = []
    tune = [(problem(blur(128), x, 50 + i), x) for i, x in enumerate(validation())]
    held = [(problem(blur(256), x, i), x) for i, x in enumerate(test)]
    for solver, (name, prior) in itertools.product(SOLVERS, priors.items()):
        chosen = best(prior, candidates(solver, prior), tune)
        s = score(prior, chosen, held)
        settings = ", ".join(
            f"{k} {getattr(chosen, k):.3g}" for k in ("sigma_start", "sigma", "lam") if getattr(chosen, k, None)
        )
        row = {"solver": solver, "prior": name, "PSNR": f"{s['PSNR']:.2f}"}
        row |= {"± images": f"{s['spread']:.2f}", "SSIM": f"{s['SSIM']:.3f}", "HaarPSI": f"{s['HaarPSI']:.3f}"}
        rows.append(row | {"calls": s["calls"], "s": f"{s['seconds']:.1f}", "chosen": settings})
        print(rows[-1], flush=True)
    return rows


def large_holes(priors: dict[str, Denoiser], test: list[torch.Tensor]) -> list[dict]:
    """A 96×96 box in the middle."""
    held = [(problem(hole(256), x, i), x) for i, x in enumerate(test)]
    tune = [(problem(hole(128), x, 50 + i), x) for i, x in enumerate(validation())]
    rows = []
    for (name, prior), inject in itertools.product(priors.items(), (0.0, 1.0)):
        high = min(prior.domain.sigma_range[1], 5.0)
        starts = sorted({min(v, high) for v in (0.3, 1.0, 5.0)})
        solvers = [
            HQS(n_steps=40, sigma_start=v, sigma_end=0.02, lam=m, inject=inject) for v in starts for m in (0.25, 1.0)
        ]
        chosen = best(prior, solvers, tune)
        s = score(prior, chosen, held)
        row = {"prior": name, "noise": "injected" if inject else "none", "PSNR": f"{s['PSNR']:.2f}"}
        row |= {"± images": f"{s['spread']:.2f}", "SSIM": f"{s['SSIM']:.3f}", "HaarPSI": f"{s['HaarPSI']:.3f}"}
        rows.append(row | {"chosen": f"sigma_start {chosen.sigma_start:.3g}, lam {chosen.lam:g}"})  # type: ignore[attr-defined]
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    torch.set_num_threads(THREADS)
    weights = folder() / "weights"
    test = [x for x in images("set12").values() if x.shape[-1] == 256]
    with tempfile.TemporaryDirectory() as scratch:
        convert(weights / "dncnn_25.pth", Path(scratch) / "dncnn_25.safetensors")
        priors: dict[str, Denoiser] = {
            "photos_gray (score)": pk.prior("photos_gray"),
            "FFDNet": FFDNet(weights=str(weights / "FFDNet_gray.npz")),
            "DnCNN": DnCNN(weights=str(Path(scratch) / "dncnn_25.safetensors"), trained_sigma=25 / 255, rescale=True),
        }
        rows = against_denoisers(priors, test)
        command = "PNPKIT_DATA=… python benchmarks/score_pnp.py"
        notes = [
            f"Motion blur (Levin's kernel 7), Set12's {len(test)} images of 256×256, noise {SIGMA}, one seed an image; "
            "± is over images. Strengths are "
            "the best of a grid on crops of two BSDS validation photographs. HaarPSI: perceptual, 1 is perfect.",
            "DnCNN was made for one noise level (25 of 255): above it the image is scaled down to it, "
            "below it its residual is scaled.",
        ]
        write_report("score_pnp", rows, command, notes, title="Score priors in classical solvers")
        rows = large_holes({k: v for k, v in priors.items() if k != "DnCNN"}, test)
        notes = [f"96×96 of 256×256 missing, noise {SIGMA}; HQS of 40 steps; figures over the whole image."]
        write_report("large_holes", rows, command, notes, title="A large hole, with and without injected noise")


if __name__ == "__main__":
    main()
