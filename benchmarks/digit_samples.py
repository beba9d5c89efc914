"""How near samples of the digits prior are to digits: python benchmarks/digit_samples.py (needs PNPKIT_DATA)

The Fréchet distance between Gaussians fitted to the 64 features of a small classifier trained here on the same training
images. It is not FID: another network, other features; compare only within this table.
"""

import time

import numpy as np
import torch
from data import folder, noise
from timing import RESULTS, write_report
from torch import nn

import pnpkit as pk
from pnpkit.io import write_image
from pnpkit.sampling import sample

COUNT = 1000
RUNS = (
    ("heun", 6), ("heun", 10), ("heun", 18), ("ddim", 18), ("ddim", 40), ("ancestral", 40), ("langevin", 20),
)  # fmt: skip


def digits(key: str) -> torch.Tensor:
    array = np.load(folder() / "digits" / "mnist.npz")[key]
    return torch.from_numpy(array)[:, None].float() / 255 if key.endswith("x") else torch.from_numpy(array).long()


def some(images: torch.Tensor) -> torch.Tensor:
    """COUNT of them at random; the files are sorted by digit."""
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(1))[:COUNT]]


def classifier() -> tuple[nn.Sequential, float]:
    """A small convolutional network after three passes over the training images; its accuracy on the test images."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 24, 3, 2, 1), nn.ReLU(), nn.Conv2d(24, 48, 3, 2, 1), nn.ReLU()]
    layers += [nn.Conv2d(48, 64, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, 10)]
    network = nn.Sequential(*layers)
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    x, y = digits("train_x"), digits("train_y")
    for rate in (2e-3, 1e-3, 2e-4):
        optimiser.param_groups[0]["lr"] = rate
        for batch in torch.randperm(len(x)).split(128):
            loss = nn.functional.cross_entropy(network(x[batch]), y[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    with torch.no_grad():
        accuracy = float((network(digits("test_x")).argmax(1) == digits("test_y")).float().mean())
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


def main() -> None:
    torch.set_num_threads(1)
    network, accuracy = classifier()
    truth = moments(network, digits("test_x"))
    noisy = some(digits("test_x")) + 0.2 * noise((COUNT, 1, 28, 28), 0)
    yardsticks = {"training images": some(digits("train_x")), "test images + noise 0.2": noisy}
    rows: list[dict] = [
        {"images": name, "calls": None, "distance": distance(moments(network, x), truth)}
        for name, x in yardsticks.items()
    ]
    prior = pk.prior("digits")
    for method, n_steps in RUNS:
        began = time.perf_counter()
        drawn = sample(prior, (1, 28, 28), COUNT, method, n_steps, seed=7)  # type: ignore[arg-type]
        row = {"images": f"{method}, {n_steps} levels", "calls": drawn.calls}
        rows.append(row | {"distance": distance(moments(network, drawn.x), truth), "s": time.perf_counter() - began})
        print(rows[-1], flush=True)
        if (method, n_steps) == ("heun", 18):
            grid = drawn.x[:96].clamp(0, 1).reshape(6, 16, 28, 28).permute(0, 2, 1, 3).reshape(1, 168, 448)
            write_image(RESULTS / "digit_samples.png", grid)
    notes = [
        f"{COUNT} samples against the 10,000 test images; features of a classifier of {100 * accuracy:.1f} % accuracy "
        "on them. One thread; seconds for all samples. calls: of the network, per sample.",
        "![samples by heun, 18 levels](digit_samples.png)",
    ]
    write_report("digit_samples", rows, "PNPKIT_DATA=… python benchmarks/digit_samples.py", notes)


if __name__ == "__main__":
    main()
