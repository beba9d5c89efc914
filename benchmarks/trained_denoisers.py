"""The shipped photograph priors as denoisers, beside FFDNet: python benchmarks/trained_denoisers.py (needs PNPKIT_DATA)

Set12 in grey, Set5 and Set14 in colour; the same noisy images for all, unclipped, three seeds. Then what they cost.
"""

import statistics
import subprocess
import sys

import torch
from data import folder, images, noise
from timing import compare, write_report

import pnpkit as pk
from pnpkit import registry
from pnpkit.metrics.image import psnr
from pnpkit.priors import FFDNet
from pnpkit.priors.base import Denoiser

LEVELS = (2, 5, 10, 15, 25, 50, 75, 100)
SEEDS = 3
DRUNET = {("Set12", 15): 33.25, ("Set12", 25): 30.94, ("Set12", 50): 27.90}  # published, Zhang et al. 2022, Table 1


def mean_psnr(d: Denoiser, sigma: float, xs: list[torch.Tensor]) -> tuple[float, float]:
    """Mean over images, and the standard deviation of that mean over seeds of noise."""
    means = []
    for seed in range(SEEDS):
        scores = [float(psnr(d(x + sigma * noise(x.shape, 1000 * seed + i), sigma), x, 1.0)) for i, x in enumerate(xs)]
        means.append(statistics.mean(scores))
    return statistics.mean(means), statistics.stdev(means)


def quality(name: str, ours: Denoiser, ffdnet: Denoiser, dataset: str, xs: list[torch.Tensor]) -> list[dict]:
    rows = []
    for level in LEVELS:
        sigma = level / 255
        (mine, spread), inside = mean_psnr(ours, sigma, xs), sigma <= ffdnet.domain.sigma_range[1]
        theirs = mean_psnr(ffdnet, sigma, xs)[0] if inside else None
        published = DRUNET.get((dataset, level))
        row = {"prior": name, "images": f"{dataset}, n = {len(xs)}", "255·sigma": level}
        row |= {"PSNR": f"{mine:.3f} ± {spread:.3f}", "FFDNet": None if theirs is None else f"{theirs:.3f}"}
        row["difference"] = None if theirs is None else f"{mine - theirs:+.3f}"
        row["DRUNet, published"] = None if published is None else f"{published:.2f}"
        rows.append(row)
        print(row, flush=True)
    return rows


PEAK = """
import sys, torch
torch.set_num_threads(1)
sys.path.insert(0, "benchmarks")
from trained_denoisers import candidates
d = candidates()[sys.argv[1]]
x = torch.rand(1, 1, 256, 256)
with torch.no_grad():
    d(x[..., :64, :64], 0.1)
    open("/proc/self/clear_refs", "w").write("5")  # the peak of resident memory starts anew
    status = lambda key: next(int(v.split()[1]) for v in open("/proc/self/status") if v.startswith(key))
    before = status("VmRSS")
    d(x, 0.1)
    print(status("VmHWM") - before)
"""


def candidates() -> dict[str, Denoiser]:
    """Grey denoisers whose cost is compared; DRUNet with random weights, which cost the same."""
    from pnpkit.priors.adapt import from_edm
    from pnpkit.priors.base import Domain

    def drunet() -> Denoiser:
        from deepinv.models import DRUNet

        return from_edm(DRUNet(in_channels=1, out_channels=1, pretrained=None, device="cpu"), Domain((1, None, None)))

    return {
        "photos_gray": pk.prior("photos_gray"),
        "FFDNet": FFDNet(weights=str(folder() / "weights" / "FFDNet_gray.npz")),
        "DRUNet (deepinv)": drunet(),
    }


def cost() -> list[dict]:
    """Seconds and memory of one 256×256 image on one thread."""
    x, networks = torch.rand(1, 1, 256, 256), candidates()
    fast = {"photos_gray, compiled": pk.prior({"name": "photos_gray", "compiled": True})}
    fast["photos_gray, compiled, bfloat16"] = pk.prior(
        {"name": "photos_gray", "compiled": True, "arithmetic": "bfloat16"}
    )
    seconds = compare({n: (lambda d=d: d(x, 0.1)) for n, d in (networks | fast).items()}, 7)
    rows = []
    for name, d in (networks | fast).items():
        peak = None
        if name in networks:
            run = subprocess.run([sys.executable, "-c", PEAK, name], capture_output=True, text=True, check=True)
            peak = int(run.stdout.split()[-1]) / 1024
        millions = sum(p.numel() for p in d.parameters()) / 1e6
        if name == "DRUNet (deepinv)":
            millions = sum(p.numel() for p in d.network.parameters()) / 1e6  # type: ignore[union-attr]
        rows.append(
            {"denoiser": name, "parameters M": f"{millions:.2f}", "s": seconds[name], "peak MB beyond weights": peak}
        )
    return rows


def main() -> None:
    torch.set_num_threads(4)
    rows = []
    weights = folder() / "weights"
    with torch.no_grad():
        for name, channels, sets in (("photos_gray", 1, ("set12",)), ("photos", 3, ("set5", "set14"))):
            if name not in registry.names("weights"):
                continue
            file = weights / ("FFDNet_gray.npz" if channels == 1 else "FFDNet_color.npz")
            ffdnet = FFDNet(weights=str(file), channels=channels)
            for dataset in sets:
                xs = list(images(dataset, channels).values())
                rows += quality(name, pk.prior(name), ffdnet, dataset.capitalize(), xs)
        command = "PNPKIT_DATA=… python benchmarks/trained_denoisers.py"
        notes = [
            f"PSNR with data range 1, {SEEDS} seeds of noise, mean over images, ± its standard deviation over seeds; "
            "unclipped noise and output; the same noisy images for both. None of the images was trained on.",
            "DRUNet: 32.6 M parameters, trained on far more data; its weights are not here.",
        ]
        write_report("trained_denoisers", rows, command, notes, title="Shipped photograph priors as denoisers")
        notes = [
            "256×256, one thread, float32 unless said, medians of 7. DRUNet with random weights. Memory is beyond "
            "what a first, small image left with the allocator: FFDNet's fits into that."
        ]
        write_report("denoiser_cost", cost(), command, notes, title="What a denoiser costs")


if __name__ == "__main__":
    main()
