"""PnP deblurring with the eight Levin kernels, beside deepinv with the same denoiser, schedule and number of steps:
python benchmarks/pnp_deblurring.py (needs PNPKIT_DATA)

Colour images, circular blur, FFDNet, DPIR's schedule of 8 steps from 49/255 down to the noise level; ours is ``hqs``
with its defaults, theirs ``deepinv.optim.DPIR``. Both see the same y.
"""

import argparse
import statistics
import time

import torch
from data import folder, images, levin_kernels, noise
from timing import write_report

from pnpkit.likelihoods import Gaussian
from pnpkit.metrics.image import psnr
from pnpkit.operators import Blur
from pnpkit.priors import FFDNet
from pnpkit.problem import Problem
from pnpkit.solvers import HQS
from pnpkit.solvers.base import solve


def ours(y: torch.Tensor, kernel: torch.Tensor, sigma: float, denoiser: FFDNet) -> torch.Tensor:
    operator = Blur(kernel=kernel, shape=tuple(y.shape[1:]))
    return solve(Problem(operator, Gaussian(sigma=sigma), y), denoiser, HQS()).x


def theirs(y: torch.Tensor, kernel: torch.Tensor, sigma: float, denoiser: FFDNet) -> torch.Tensor:
    from deepinv.optim import DPIR
    from deepinv.physics import BlurFFT

    physics = BlurFFT(img_size=tuple(y.shape[1:]), filter=kernel[None])
    return DPIR(sigma=sigma, denoiser=denoiser)(y, physics)


def case(dataset: dict[str, torch.Tensor], kernel: torch.Tensor, k: int, sigma: float, denoiser: FFDNet) -> dict:
    """Mean PSNR over the images of one kernel; the noise of an image has a seed of its own."""
    scores: dict[str, list[float]] = {"blurred": [], "pnpkit": [], "deepinv": []}
    seconds = {"pnpkit": 0.0, "deepinv": 0.0}
    for i, x in enumerate(dataset.values()):
        y = Blur(kernel=kernel, shape=tuple(x.shape[1:]))(x) + sigma * noise(x.shape, 100 * k + i)
        scores["blurred"].append(float(psnr(y, x, 1.0)))
        for name, method in (("pnpkit", ours), ("deepinv", theirs)):
            began = time.perf_counter()
            found = method(y, kernel, sigma, denoiser)
            seconds[name] += time.perf_counter() - began
            scores[name].append(float(psnr(found, x, 1.0)))
    worst = max(abs(a - b) for a, b in zip(scores["pnpkit"], scores["deepinv"], strict=True))
    return {
        **{f"{name} dB": f"{statistics.mean(values):.2f}" for name, values in scores.items()},
        "spread over images": f"{statistics.stdev(scores['pnpkit']):.2f}",
        "largest difference": f"{worst:.3f}",
        "deepinv s / pnpkit s": f"{seconds['deepinv'] / seconds['pnpkit']:.2f}",
    }


def main(sigmas: tuple[float, ...] = (2.55, 7.65), kernels: int = 8) -> None:
    torch.set_num_threads(4)
    denoiser = FFDNet(weights=str(folder() / "weights" / "FFDNet_color.npz"), channels=3)
    rows = []
    with torch.no_grad():
        for name in ("set3c", "set14"):
            dataset = images(name, 3)
            for sigma in sigmas:
                for k, kernel in enumerate(levin_kernels()[:kernels]):
                    size = f"{k + 1} ({kernel.shape[-1]}×{kernel.shape[-1]})"
                    row = {"images": f"{name}, n = {len(dataset)}", "255·sigma": str(sigma), "kernel": size}
                    rows.append(row | case(dataset, kernel, k, sigma / 255, denoiser))
                    print(rows[-1], flush=True)
    notes = [
        "Mean PSNR over the images, noise of one seed an image (100·kernel + image), unclipped; spread: standard "
        "deviation over images; largest difference: of one image.",
        "Colour FFDNet; its authors trained on other images. Four threads; seconds are of whole reconstructions, "
        "preparation of the operator included.",
    ]
    command = "PNPKIT_DATA=… python benchmarks/pnp_deblurring.py"
    write_report("pnp_deblurring", rows, command, notes, title="PnP deblurring, Levin kernels")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernels", type=int, default=8)
    main(kernels=parser.parse_args().kernels)
