"""FFDNet and DnCNN on the images they were published for: python benchmarks/denoisers.py (needs PNPKIT_DATA)

Beside the protocol of the published figures (KAIR's test scripts: NumPy noise of seed 0 for every image, output rounded
to 8 bits), five seeds of noise with unrounded output.
"""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from data import folder, images, noise
from timing import write_report

from pnpkit.metrics.image import psnr, ssim
from pnpkit.priors import DnCNN, FFDNet
from pnpkit.priors.base import Denoiser
from pnpkit.priors.weights import convert

PUBLISHED = {("FFDNet", 15): 32.74, ("FFDNet", 25): 30.42, ("FFDNet", 50): 27.32, ("DnCNN", 25): 30.42}
SEEDS = 5


def published_protocol(d: Denoiser, sigma: float, xs: list[torch.Tensor]) -> float:
    """Mean PSNR with seed 0 for every image and 8-bit output."""
    scores = []
    for x in xs:
        n = torch.from_numpy(np.random.RandomState(0).normal(0, sigma, tuple(x.shape[1:]))[None])
        clean = d((x + n).float(), sigma)
        scores.append(float(psnr((clean.clamp(0, 1) * 255).round() / 255, x, 1.0)))
    return statistics.mean(scores)


def seeds(d: Denoiser, sigma: float, xs: list[torch.Tensor]) -> dict[str, str | float]:
    """Mean over images, and its standard deviation over seeds of noise."""
    means, similar, seconds = [], [], 0.0
    for seed in range(SEEDS):
        noisy = [x + sigma * noise(x.shape, 1000 * seed + i) for i, x in enumerate(xs)]
        began = time.perf_counter()
        clean = [d(y, sigma) for y in noisy]
        seconds += time.perf_counter() - began
        means.append(statistics.mean(float(psnr(c, x, 1.0)) for c, x in zip(clean, xs, strict=True)))
        similar.append(statistics.mean(float(ssim(c, x, 1.0)) for c, x in zip(clean, xs, strict=True)))
    pixels = SEEDS * sum(x[0, 0].numel() for x in xs)
    return {
        "PSNR": f"{statistics.mean(means):.3f} ± {statistics.stdev(means):.3f}",
        "SSIM": f"{statistics.mean(similar):.4f}",
        "s / megapixel": seconds / pixels * 1e6,
    }


def main() -> None:
    torch.set_num_threads(2)
    grey = list(images("set12").values())
    weights = folder() / "weights"
    rows = []

    def report(name: str, d: Denoiser, level: int, dataset: str, xs: list[torch.Tensor]) -> None:
        row: dict = {"denoiser": name, "images": f"{dataset}, n = {len(xs)}", "255·sigma": level}
        wanted = PUBLISHED.get((name, level)) if dataset == "Set12" else None
        row["stated"] = None if wanted is None else f"{wanted:.2f}"
        row["by its protocol"] = None if wanted is None else f"{published_protocol(d, level / 255, xs):.3f}"
        rows.append(row | seeds(d, level / 255, xs))

    with torch.no_grad(), tempfile.TemporaryDirectory() as scratch:
        for level in (15, 25, 50):
            report("FFDNet", FFDNet(weights=str(weights / "FFDNet_gray.npz")), level, "Set12", grey)
        converted = Path(scratch) / "dncnn_25.safetensors"
        convert(weights / "dncnn_25.pth", converted)
        dncnn = DnCNN(weights=str(converted), trained_sigma=25 / 255, rescale=False)
        report("DnCNN", dncnn, 25, "Set12", grey)
        colour = FFDNet(weights=str(weights / "FFDNet_color.npz"), channels=3)
        for dataset in ("set5", "set14"):
            report("FFDNet, colour", colour, 25, dataset.capitalize(), list(images(dataset, 3).values()))
    notes = [
        "stated: by the data folder's README, for KAIR's protocol (NumPy seed 0 for every image, 8-bit output).",
        f"PSNR, SSIM: {SEEDS} seeds of noise, unrounded output, no clipping of the noisy image; mean over images, "
        "standard deviation of that mean over seeds.",
        "Two threads. None of the images was used here for training; what the authors trained on is in their papers.",
    ]
    write_report("denoisers", rows, "PNPKIT_DATA=… python benchmarks/denoisers.py", notes)


if __name__ == "__main__":
    main()
