"""Denoising score matching: the objective that makes a denoiser, hence a score."""

import math
from collections.abc import Callable

import torch
from torch import nn

from pnpkit.priors.networks.edm import Preconditioned
from pnpkit.priors.networks.unet import UNet, noise_coordinate
from pnpkit.priors.weights import State, fill, load
from pnpkit.training.data import Pool
from pnpkit.training.recipe import NoiseOptions, Recipe


def build(recipe: Recipe) -> Preconditioned:
    """The network of a recipe, with initial weights from its seed, or from the weights that it starts from."""
    image, network = recipe.image, recipe.network
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        unet = UNet(
            channels=image.channels,
            widths=network.widths,
            blocks=network.blocks,
            attention=network.attention,
        )
    if recipe.start is not None:
        fill(unet, other_channels({k: v.float() for k, v in load(recipe.start).items()}, unet), recipe.start)
    return Preconditioned(unet, image.mean, image.std)


def other_channels(state: State, unet: UNet) -> State:
    """Weights for images of other channels: a network that reads their mean, and answers with it in each."""
    before, after = state["tail.weight"].shape[0], unet.config["channels"]
    if before == after:
        return state
    head, tail = state["head.weight"].mean(1, keepdim=True), state["tail.weight"].mean(0, keepdim=True)
    return state | {
        "head.weight": head.repeat(1, after, 1, 1) * (before / after),
        "tail.weight": tail.repeat(after, 1, 1, 1),
        "tail.bias": state["tail.bias"].mean().repeat(after),
    }


def draw_sigma(noise: NoiseOptions, rng: torch.Generator) -> float:
    """One noise level."""
    which, where = torch.rand(2, generator=rng, dtype=torch.float64).tolist()
    low, high = noise.focus if which < noise.share else noise.range
    return math.exp(math.log(low) + where * (math.log(high) - math.log(low)))


def draw(pool: Pool, noise: NoiseOptions, seed: int, first: int, n: int) -> tuple[torch.Tensor, ...]:
    """Samples ``first`` … ``first + n − 1``: clean crops, noise levels (n,), noise."""
    clean, sigmas, noises = [], [], []
    for i in range(first, first + n):
        x, rng = pool.sample(seed, i)
        clean.append(x)
        sigmas.append(draw_sigma(noise, rng))
        noises.append(torch.randn(x.shape, generator=rng))
    return torch.stack(clean), torch.tensor(sigmas), torch.stack(noises)


def loss(
    model: Preconditioned,
    body: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    sigma: torch.Tensor,
    noise: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(what is minimised, per-sample ‖D − x‖²/c_out² per pixel).

    EDM's weight 1/c_out² (Karras et al. 2022, eq. 8), divided by the loss expected at the noise level, which a linear
    layer learns on the way (Karras et al. 2024, eq. 16; Kendall et al. 2018): every level then counts by its relative
    error, which is its PSNR. ``body`` runs the network; it may be compiled or in another precision.
    """
    skip, out, scale = model.scales(sigma, x)
    network: UNet = model.network
    embedding = network.embedding(noise_coordinate(sigma, model.std))
    noisy = x + sigma.reshape(-1, 1, 1, 1) * noise - model.mean
    raw = body(scale * noisy, embedding).float()
    target = (x - model.mean - skip * noisy) / out
    error = (raw - target).square().flatten(1).mean(1)
    log_expected = network.log_loss(embedding.detach())[:, 0]
    return (error * torch.exp(-log_expected) + log_expected).mean(), error.detach()


@torch.no_grad()
def psnr_by_sigma(model: nn.Module, images: torch.Tensor, sigmas: tuple[float, ...]) -> dict[str, float]:
    """Mean PSNR (range 1) of denoised ``images`` at each noise level, with fixed noise."""
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(images.shape, generator=rng).to(images.device)
    values = {}
    for sigma in sigmas:
        level = torch.full((1,), sigma, device=images.device)
        clean = torch.cat([model(x[None] + sigma * n[None], level) for x, n in zip(images, noise, strict=True)])
        mse = (clean - images).square().flatten(1).mean(1)
        values[f"{sigma:g}"] = float((-10 * mse.log10()).mean())
    return values


def trimmed(images: torch.Tensor, multiple: int) -> torch.Tensor:
    """Cropped so that height and width are multiples."""
    h, w = ((n // multiple) * multiple for n in images.shape[-2:])
    return images[..., :h, :w]
