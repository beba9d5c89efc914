"""Photographs that scikit-image ships (public domain or CC0): blur, ×2 super-resolution, inpainting.

In colour with the denoiser ``photos``, in grey with Diff-Unfolding's ``unfold_photos``.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch

from pnpkit import likelihoods, operators, priors, registry, solvers
from pnpkit.demo.cases import Case, Method, simulate
from pnpkit.operators.base import LinearOperator

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee")
GREY = "camera"
SIDE = 256


def photograph(name: str, mode: Literal["RGB", "L"] = "RGB") -> torch.Tensor:
    """The central square of a photograph at 256×256, (1, 3 or 1, 256, 256) in [0, 1]."""
    from PIL import Image
    from skimage import data

    image = Image.fromarray(np.asarray(getattr(data, name)())).convert(mode)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    array = np.array(image).reshape(SIDE, SIDE, -1)
    return torch.from_numpy(array).permute(2, 0, 1)[None].float() / 255


def cases(data: Path | None, quick: bool) -> Iterator[Case]:
    """Three degradations of each photograph, and two of a grey one."""
    for name in PHOTOGRAPHS[:1] if quick else PHOTOGRAPHS:
        for task in tasks(3):
            yield degraded(name, photograph(name), task, methods(task.sigma, data))
    for task in tasks(1)[::2]:
        yield degraded(GREY, photograph(GREY, "L"), task, grey_methods(task.sigma))


class Task(NamedTuple):
    name: str
    text: str
    operator: LinearOperator
    sigma: float


def tasks(channels: int) -> list[Task]:
    """Motion blur, super-resolution, inpainting."""
    shape = (channels, SIDE, SIDE)
    mask = registry.make("random_mask", shape=(1, SIDE, SIDE), fraction=0.4, seed=0)
    motion, small = registry.make("motion_kernel", size=21, seed=3), registry.make("gaussian_kernel", size=7, std=1.0)
    doubled = operators.SuperResolution(kernel=small, factor=2, shape=shape)
    return [
        Task("motion blur", "motion kernel 21×21", operators.Blur(kernel=motion, shape=shape), 0.02),
        Task("×2 super-resolution", "Gaussian kernel of 1 pixel, every second pixel kept", doubled, 0.01),
        Task("inpainting", "60 % of the pixels are missing", operators.Inpainting(mask=mask, shape=shape), 0.02),
    ]


def degraded(name: str, x: torch.Tensor, task: Task, methods: list[Method]) -> Case:
    noise, text = likelihoods.Gaussian(sigma=task.sigma), f"{task.text}; Gaussian noise, sigma {task.sigma:g}"
    return simulate(f"{name}: {task.name}", task.operator, noise, x, methods, text)


def grey_methods(sigma: float) -> list[Method]:
    """TV, the shipped score prior, and Diff-Unfolding's posterior mean: three network calls."""
    return [
        Method("TV", priors.TV(weight=0.15 / sigma), solvers.PDHG(n_steps=300)),
        Method("photos_gray in HQS", registry.build("priors", "photos_gray"), solvers.HQS(n_steps=20)),
        Method(
            "unfold_photos",
            registry.build("priors", {"name": "unfold_photos", "backend": "auto"}),
            solvers.PosteriorSampler(n_steps=1),
        ),
    ]


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
