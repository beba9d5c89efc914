"""The pictures of the documentation, from images that ship with scikit-image: python docs/pictures.py"""

from pathlib import Path

import torch

import pnpkit as pk
from pnpkit.demo.photographs import photograph
from pnpkit.io import write_image
from pnpkit.priors.base import Denoiser, Proximable
from pnpkit.sampling import sample

HERE = Path(__file__).parent / "img"
SIGMA = 0.1


def denoised(prior: Denoiser | Proximable, x: torch.Tensor) -> torch.Tensor:
    return prior.prox(x, SIGMA**2) if isinstance(prior, Proximable) else prior.denoise(x, SIGMA)


def functions() -> None:
    """A grey photograph with noise, and after the prox of three functions."""
    x = photograph("chelsea").mean(1, keepdim=True)[..., 60:188, 40:200]
    noisy = x + SIGMA * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    names = ({"name": "tv"}, {"name": "closed_form_tv"}, {"name": "l1_wavelet", "wavelet": "db2", "shifts": 4})
    row = [noisy, *(denoised(pk.prior({**n, "weight": 0.8 / SIGMA}), noisy) for n in names)]
    write_image(HERE / "prior_functions.png", torch.cat(row, -1).clamp(0, 1))


def digits() -> None:
    """One row of samples a method."""
    prior, rows = pk.prior("digits"), []
    for method, n_steps in (("heun", 18), ("ddim", 40), ("ancestral", 100), ("langevin", 20)):
        x = sample(prior, (1, 28, 28), 20, method, n_steps, seed=3).x  # type: ignore[arg-type]
        rows.append(x.clamp(0, 1).permute(1, 2, 0, 3).reshape(1, 28, 560))
    write_image(HERE / "prior_digits.png", torch.cat(rows, -2))


def photographs() -> None:
    """Noise of 25/255 and 50/255, each beside what the score priors make of it: in grey, in colour."""
    rows = []
    for name, x in (("photos_gray", photograph("chelsea").mean(1, keepdim=True)), ("photos", photograph("coffee"))):
        x, prior, row = x[..., 60:188, 40:200], pk.prior(name), []
        for seed, level in enumerate((25 / 255, 50 / 255)):
            noisy = x + level * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
            row += [noisy, prior.denoise(noisy, level)]
        rows.append(torch.cat(row, -1).expand(-1, 3, -1, -1))
    write_image(HERE / "prior_photos.png", torch.cat(rows, -2).clamp(0, 1))


if __name__ == "__main__":
    functions()
    photographs()
    digits()
