"""How near samples of the generative priors are to their images: python benchmarks/prior_samples.py digits|tiny_photos

Needs PNPKIT_DATA. The Fréchet distance between Gaussians fitted to the 64 features of a small classifier trained here
on the training images of the prior. It is not FID: another network, other features; compare only within one table.
"""

import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from data import folder, noise
from timing import RESULTS, write_report
from torch import nn

import pnpkit as pk
from pnpkit.io import write_image
from pnpkit.sampling import sample

Images = tuple[torch.Tensor, torch.Tensor]  # (N, C, H, W) in [0, 1] and their classes


@dataclass(frozen=True)
class Study:
    """A prior, its training images, others, and the runs to judge."""

    prior: str
    train: Callable[[], Images]
    test: Callable[[], Images]
    widths: tuple[int, int, int]  # of the classifier
    passes: tuple[float, ...]  # its learning rate in each pass over the training images
    runs: tuple[tuple[str, int], ...]  # (method, levels)
    report: str
    count: int  # of samples


def digits(part: str) -> Images:
    arrays = np.load(folder() / "digits" / "mnist.npz")
    x = torch.from_numpy(arrays[f"{part}_x"])[:, None].float() / 255
    return x, torch.from_numpy(arrays[f"{part}_y"]).long()


def tiny_photos(first: int, last: int) -> Images:
    """Images number ``first`` to ``last`` − 1 of each of the 200 classes."""
    from PIL import Image

    with zipfile.ZipFile(folder() / "natural" / "tiny_photos_64x64.zip") as archive:
        names = sorted(archive.namelist())
        classes = sorted({n.split("/")[0] for n in names})
        kept = [n for c in classes for n in [m for m in names if m.startswith(c)][first:last]]
        pictures = [np.array(Image.open(archive.open(n)).convert("RGB")) for n in kept]
    x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    return x, torch.tensor([classes.index(n.split("/")[0]) for n in kept])


STUDIES = {
    "digits": Study(
        "digits", lambda: digits("train"), lambda: digits("test"), (24, 48, 64), (2e-3, 1e-3, 2e-4),
        (("heun", 6), ("heun", 10), ("heun", 18), ("ddim", 18), ("ddim", 40), ("ancestral", 40), ("langevin", 20)),
        "digit_samples", 1000,
    ),
    "tiny_photos": Study(
        "tiny_photos", lambda: tiny_photos(0, 40), lambda: tiny_photos(40, 50), (32, 64, 128),
        (2e-3,) * 12 + (4e-4,) * 4,
        (("heun", 10), ("heun", 18), ("ddim", 40)),
        "tiny_photo_samples", 500,
    ),
}  # fmt: skip


def some(images: torch.Tensor, count: int) -> torch.Tensor:
    """That many of them at random; they are sorted by class."""
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(1))[:count]]


def classifier(study: Study) -> tuple[nn.Sequential, float]:
    """A small convolutional network trained on the training images; its accuracy on the others."""
    torch.manual_seed(0)
    x, y = study.train()
    layers: list[nn.Module] = []
    before = x.shape[1]
    for width in study.widths:
        layers += [nn.Conv2d(before, width, 3, 2, 1), nn.ReLU()]
        before = width
    layers += [nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * before, 64), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Linear(64, int(y.max()) + 1))
    optimiser = torch.optim.Adam(network.parameters())
    for rate in study.passes:
        optimiser.param_groups[0]["lr"] = rate
        for batch in torch.randperm(len(x)).split(128):
            loss = nn.functional.cross_entropy(network(x[batch]), y[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    x, y = study.test()
    with torch.no_grad():
        accuracy = float((network(x).argmax(1) == y).float().mean())
    return network[:-1], accuracy  # type: ignore[return-value]


def moments(network: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        f = torch.cat([network(part) for part in x.split(1000)]).double()
    return f.mean(0), f.T.cov()


def distance(a: tuple[torch.Tensor, torch.Tensor], b: tuple[torch.Tensor, torch.Tensor]) -> float:
    """‖m_a − m_b‖² + tr(C_a + C_b − 2(C_a C_b)^½)."""
    values, vectors = torch.linalg.eigh(a[1])
    root = vectors @ torch.diag(values.clamp_min(0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ b[1] @ root).clamp_min(0).sqrt().sum()
    return float((a[0] - b[0]).square().sum() + a[1].trace() + b[1].trace() - 2 * cross)


def main(name: str) -> None:
    torch.set_num_threads(3)
    study = STUDIES[name]
    network, accuracy = classifier(study)
    train, test = study.train()[0], study.test()[0]
    truth = moments(network, test)
    noisy = some(test, study.count)
    noisy = noisy + 0.2 * noise(noisy.shape, 0)
    rows: list[dict] = [
        {"images": label, "calls": None, "distance": distance(moments(network, x), truth)}
        for label, x in {"training images": some(train, study.count), "other images + noise 0.2": noisy}.items()
    ]
    for method, n_steps in study.runs:
        began = time.perf_counter()
        drawn = sample(pk.prior(study.prior), test.shape[1:], study.count, method, n_steps, seed=7)  # type: ignore[arg-type]
        row = {"images": f"{method}, {n_steps} levels", "calls": drawn.calls}
        rows.append(row | {"distance": distance(moments(network, drawn.x), truth), "s": time.perf_counter() - began})
        print(rows[-1], flush=True)
        if (method, n_steps) == ("heun", 18):
            channels, height, width = test.shape[1:]
            tiles = drawn.x[:96].clamp(0, 1).reshape(6, 16, channels, height, width).permute(2, 0, 3, 1, 4)
            write_image(RESULTS / f"{study.report}.png", tiles.reshape(channels, 6 * height, 16 * width))
    notes = [
        f"{study.count} samples against {len(test)} images that the classifier did not see; its accuracy on them is "
        f"{100 * accuracy:.1f} %. Three threads; seconds for all samples. calls: of the network, per sample.",
        f"![samples by heun, 18 levels]({study.report}.png)",
    ]
    write_report(study.report, rows, f"PNPKIT_DATA=… python benchmarks/prior_samples.py {name}", notes)


if __name__ == "__main__":
    main(sys.argv[1])
