"""Denoising score matching: the objective that makes a denoiser, hence a score."""

import math
import re
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from pnpkit.priors.networks.edm import Body, Preconditioned
from pnpkit.priors.networks.unet import UNet, noise_coordinate
from pnpkit.priors.unet import FORMAT
from pnpkit.priors.weights import State, fill, load
from pnpkit.training.data import Pool
from pnpkit.training.objectives import Objective
from pnpkit.training.recipe import NoiseOptions, Recipe

MIDDLE = re.compile(r"middle\.blocks\.(\d+)\.")


class DenoisingScoreMatching(Objective):
    """E‖D(x + sigma·n, sigma) − x‖² over images and noise levels."""

    prior = "unet"

    def build(self) -> Preconditioned:
        return Preconditioned(started(self.recipe, {}), self.recipe.image.mean, self.recipe.image.std)

    def networks(self, model: nn.Module) -> list[nn.Module]:
        return [model.network]  # type: ignore[list-item]

    def draw(self, pool: Pool, first: int, n: int) -> tuple[torch.Tensor, ...]:
        return draw(pool, self.recipe.noise, self.recipe.seed, first, n)

    def moved(self, batch: tuple[torch.Tensor, ...], device: torch.device) -> tuple[torch.Tensor, ...]:
        return tuple(t.to(device) for t in batch)

    def loss(self, model: Preconditioned, bodies: list[Body], batch: tuple[torch.Tensor, ...]):
        return loss(model, bodies[0], *batch)

    def scores(self, model: Preconditioned, images: torch.Tensor) -> dict[str, float]:
        return psnr_by_sigma(model, images, self.recipe.validation.sigmas)

    def saved(self, model: Preconditioned) -> tuple[str, dict[str, Any], dict[str, torch.Tensor]]:
        image, noise = self.recipe.image, self.recipe.noise
        told = {"mean": model.mean, "std": model.std, "complex": image.complex, "sigma_range": reach(noise)}
        return FORMAT, model.network.config | told, model.network.state_dict()


def reach(noise: NoiseOptions) -> list[float]:
    """The noise levels that a network has seen."""
    return [min(noise.range[0], noise.focus[0]), max(noise.range[1], noise.focus[1])]


def started(recipe: Recipe, options: dict[str, Any]) -> UNet:
    """A U-Net with initial weights from the recipe's seed, or from the weights that it starts from."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        told: dict[str, Any] = recipe.network.model_dump(exclude_none=True)
        told |= {"channels": recipe.image.channels} | options
        unet = UNet(**told)
    if recipe.start is not None:
        state = {k: v.float() for k, v in load(recipe.start).items()}
        fill(unet, with_conditions(other_channels(without_blocks(state, unet), unet), unet), recipe.start)
    return unet


def without_blocks(state: State, unet: UNet) -> State:
    """Without the residual blocks of the coarsest resolution that the network does not have."""
    kept = len(unet.middle.blocks)
    return {k: v for k, v in state.items() if not (m := MIDDLE.match(k)) or int(m[1]) < kept}


def with_conditions(state: State, unet: UNet) -> State:
    """With zero weights for further input channels, so that the network starts as it was."""
    head = state["head.weight"]
    missing = max(0, unet.head.weight.shape[1] - head.shape[1])
    return state | {"head.weight": functional.pad(head, (0, 0, 0, 0, 0, missing))}


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
    body: Body,
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
