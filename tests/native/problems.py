"""Small problems that the tests of the C++ backend share."""

import pytest
import torch

from pnpkit import native
from pnpkit.likelihoods import Gaussian
from pnpkit.operators import MRI, Blur, Inpainting, SuperResolution
from pnpkit.operators.makers.coils import random_coil_maps
from pnpkit.operators.makers.kernels import gaussian_kernel
from pnpkit.problem import Problem

ABSENT = native.absent()
needs_native = pytest.mark.skipif(ABSENT is not None, reason=f"no native backend: {ABSENT}")


def draw(*shape: int, seed: int = 0, complex: bool = False) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=rng, dtype=torch.complex64 if complex else torch.float32)


def kernel(seed: int = 0, *lead: int, h: int = 5, w: int = 6) -> torch.Tensor:
    return torch.rand(*lead, 1, h, w, generator=torch.Generator().manual_seed(seed)) / (h * w)


def mask(*shape: int, keep: float = 0.5, seed: int = 1) -> torch.Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < keep).float()


def lines(h: int, w: int, axis: int) -> torch.Tensor:
    one = mask(h if axis == -2 else w, keep=0.6)
    one[len(one) // 2] = 1
    return (one[:, None] if axis == -2 else one[None]).expand(1, h, w).clone()


def assert_near(a: torch.Tensor, b: torch.Tensor, relative: float = 1e-5) -> None:
    """Same shape and type; the largest difference at most ``relative`` of the largest of b."""
    torch.testing.assert_close(a, b, rtol=0, atol=relative * float(b.abs().max()))


def photo_problem(name: str = "blur", batch: int = 2, size: tuple[int, int] = (40, 52)) -> Problem:
    shape = (1, *size)
    op = {
        "blur": lambda: Blur(kernel=gaussian_kernel(size=9, std=1.5), shape=shape),
        "inpainting": lambda: Inpainting(mask=mask(1, *size), shape=shape),
        "super_resolution": lambda: SuperResolution(kernel=gaussian_kernel(size=9, std=1.5), factor=2, shape=shape),
    }[name]()
    grid = torch.linspace(0, 3, size[1]).sin() * torch.linspace(0, 2, size[0]).cos()[:, None] * 0.4 + 0.5
    likelihood = Gaussian(sigma=0.03)
    y = likelihood.sample(op(grid.expand(batch, *shape).contiguous()), torch.Generator().manual_seed(2))
    return Problem(op, likelihood, y)


def mri_problem() -> Problem:
    op = MRI(mask=lines(40, 36, -1), maps=random_coil_maps((4, 40, 36), seed=0))
    x = draw(1, 1, 40, 36, complex=True) * 0.1 + 0.5
    likelihood = Gaussian(sigma=0.01)
    return Problem(op, likelihood, likelihood.sample(op(x), torch.Generator().manual_seed(2)))
