"""The closed-form TV step beside the exact prox: python benchmarks/tv_prox.py

The table of shared/methods/tv_prox.md §3.4 from our code (128×128 phantom in [0, 1], noise 0.1, circular boundary,
float64), the trade-off of accuracy against step length inside accelerated proximal gradient, and the cost of one step.
"""

import torch
from timing import compare, write_report

from pnpkit.likelihoods import Gaussian
from pnpkit.metrics.image import psnr
from pnpkit.operators import Identity
from pnpkit.priors import TV, ClosedFormTV
from pnpkit.problem import Problem
from pnpkit.solvers import ClosedFormTVAPG
from pnpkit.solvers.base import solve

TAUS = (1e-3, 1e-2, 3e-2, 1e-1, 3e-1)
NOISE = 0.1


def phantom(side: int) -> torch.Tensor:
    """A rectangle, a smaller one on it, and a disc, constant each, in [0, 1], (1, 1, side, side)."""
    axis = torch.arange(side, dtype=torch.float64) / side
    row, column = axis[:, None], axis[None]
    image = 0.8 * ((row > 0.15) & (row < 0.55) & (column > 0.12) & (column < 0.6)).double()
    image[((row > 0.25) & (row < 0.4) & (column > 0.25) & (column < 0.45))] = 1.0
    image[(row - 0.7) ** 2 + (column - 0.68) ** 2 < 0.18**2] = 0.5
    return image[None, None]


def exact(isotropic: bool, weight: float = 1.0) -> TV:
    return TV(weight=weight, isotropic=isotropic, boundary="circular", tol=2e-6, max_iter=20000)


def closed(isotropic: bool, weight: float = 1.0) -> ClosedFormTV:
    return ClosedFormTV(weight=weight, isotropic=isotropic, boundary="circular")


def against_exact(x: torch.Tensor, v: torch.Tensor) -> list[dict]:
    """One step of each from the same noisy image."""
    rows = []
    for isotropic in (False, True):
        for tau in TAUS:
            ours, reference = closed(isotropic).prox(v, tau), exact(isotropic).prox(v, tau)
            error = ours - reference
            rows.append(
                {
                    "TV": "isotropic" if isotropic else "anisotropic",
                    "tau": tau,
                    "RMS error": float(error.square().mean().sqrt()),
                    "error / ‖prox − v‖": float(error.norm() / (reference - v).norm()),
                    "TV before": f"{float(exact(isotropic).value(v)):.1f}",
                    "TV closed form": f"{float(exact(isotropic).value(ours)):.1f}",
                    "TV exact": f"{float(exact(isotropic).value(reference)):.1f}",
                    "PSNR closed form": f"{float(psnr(ours, x, 1.0)):.2f}",
                    "PSNR exact": f"{float(psnr(reference, x, 1.0)):.2f}",
                }
            )
    return rows


def trade_off(x: torch.Tensor, v: torch.Tensor, strength: float = 0.1) -> list[dict]:
    """Denoising ½‖x − v‖² + 0.1·TV by steps of length γ: all are fast for large γ, and exact for small."""
    reference = exact(False, strength).prox(v, 1.0)
    problem = Problem(Identity(shape=tuple(v.shape[1:])).double(), Gaussian(sigma=1.0).double(), v)
    rows = []
    for gamma, steps in ((1.0, 50), (0.1, 300), (0.01, 300), (0.01, 1500), (0.001, 600), (0.001, 6000)):
        for warm in (0, steps // 2):
            solver = ClosedFormTVAPG(n_steps=steps, relative_step=gamma, warm_steps=warm)
            found = solve(problem, closed(False, strength), solver).x
            rows.append(
                {
                    "γ·L": gamma,
                    "steps": steps,
                    "warm steps": warm,
                    "PSNR": f"{float(psnr(found, x, 1.0)):.2f}",
                    "PSNR exact": f"{float(psnr(reference, x, 1.0)):.2f}",
                    "SNR to exact dB": f"{float(20 * torch.log10(reference.norm() / (found - reference).norm())):.1f}",
                }
            )
    return rows


def cost(side: int = 512) -> list[dict]:
    """Seconds of one prox at 512×512 in float32, on one thread."""
    from deepinv.models.tv import TVDenoiser

    v = (phantom(side) + NOISE * torch.randn(1, 1, side, side)).float()
    theirs, tau = TVDenoiser(n_it_max=50, crit=0), 0.03
    functions = {
        "closed form": lambda: ClosedFormTV(weight=1.0).prox(v, tau),
        "exact, gap 1e-3": lambda: TV(weight=1.0, tol=1e-3).prox(v, tau),
        "exact, gap 1e-5": lambda: TV(weight=1.0, tol=1e-5).prox(v, tau),
        "deepinv, 50 iterations": lambda: theirs(v, ths=tau),
    }
    return [{"prox": n, "ms": 1e3 * s} for n, s in compare(functions, repeats=11).items()]


def main() -> None:
    torch.set_num_threads(1)
    x = phantom(128)
    v = x + NOISE * torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    command = "python benchmarks/tv_prox.py"
    noisy = float(psnr(v, x, 1.0))
    note = f"128×128, rectangles and a disc in [0, 1], noise {NOISE} (seed 0), {noisy:.2f} dB; circular, float64."
    exactly = "exact: duality gap 2e-6 of the objective."
    write_report("tv_prox", against_exact(x, v), command, [note, exactly], title="TV prox: closed form against exact")
    write_report(
        "tv_prox_steps",
        trade_off(x, v),
        command,
        [note, "Anisotropic, weight 0.1, by closed_form_tv_apg; warm steps 0 is the constant step of the paper."],
        title="Closed-form TV: accuracy against step length",
    )
    write_report(
        "tv_prox_cost", cost(), command, ["512×512, float32, one thread, medians of 11."], title="Cost of a TV prox"
    )


if __name__ == "__main__":
    main()
