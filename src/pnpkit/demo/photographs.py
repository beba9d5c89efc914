"""Photographs that scikit-image ships (public domain or CC0): blur, ×2 super-resolution, inpainting."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from pnpkit import likelihoods, operators, priors, registry, solvers
from pnpkit.demo.cases import Case, Method, simulate

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee")
SIDE = 256


def photograph(name: str) -> torch.Tensor:
    """The central square of a photograph at 256×256, (1, 3, 256, 256) in [0, 1]."""
    from PIL import Image
    from skimage import data

    image = Image.fromarray(np.asarray(getattr(data, name)())).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


def cases(data: Path | None, quick: bool) -> Iterator[Case]:
    """Three degradations of each photograph."""
    shape = (3, SIDE, SIDE)
    mask = registry.make("random_mask", shape=(1, SIDE, SIDE), fraction=0.4, seed=0)
    tasks = (
        (
            "motion blur",
            "motion kernel 21×21",
            operators.Blur(kernel=registry.make("motion_kernel", size=21, seed=3), shape=shape),
            0.02,
        ),
        (
            "×2 super-resolution",
            "Gaussian kernel of 1 pixel, every second pixel kept",
            operators.SuperResolution(kernel=registry.make("gaussian_kernel", size=7, std=1.0), factor=2, shape=shape),
            0.01,
        ),
        ("inpainting", "60 % of the pixels are missing", operators.Inpainting(mask=mask, shape=shape), 0.02),
    )  # fmt: skip
    for name in PHOTOGRAPHS[:1] if quick else PHOTOGRAPHS:
        x = photograph(name)
        for task, text, operator, sigma in tasks:
            noise = likelihoods.Gaussian(sigma=sigma)
            yield simulate(
                f"{name}: {task}", operator, noise, x, methods(sigma, data), f"{text}; Gaussian noise, sigma {sigma:g}"
            )


def methods(sigma: float, data: Path | None) -> list[Method]:
    """TV, closed-form TV, wavelets; the shipped score prior, and FFDNet where its weights are.

    Strengths of the functions were tuned on another photograph; HQS has its defaults.
    """
    tv, wavelet = 0.15 / sigma, 0.2 / sigma
    found = [
        Method("TV", priors.TV(weight=tv), solvers.PDHG(n_steps=300)),
        Method("closed-form TV", priors.ClosedFormTV(weight=tv), solvers.ClosedFormTVAPG(n_steps=150)),
        Method("L1-wavelet", priors.L1Wavelet(weight=wavelet, wavelet="db2", shifts=4), solvers.FISTA(n_steps=100)),
        Method("photos in HQS", registry.build("priors", "photos"), solvers.HQS(n_steps=20)),
    ]
    weights = data / "weights" / "FFDNet_color.npz" if data else None
    if weights is not None and weights.is_file():
        found.append(Method("FFDNet in HQS", priors.FFDNet(weights=str(weights), channels=3), solvers.HQS(n_steps=20)))
    return found
