"""A conditional diffusion model: the network sees a first image from the data beside x_t."""

from typing import Any, Self

import torch
from torch import nn

from pnpkit.priors.networks.edm import Body, Preconditioned
from pnpkit.priors.networks.shapes import halves, on_real_images
from pnpkit.priors.networks.unet import UNet, noise_coordinate
from pnpkit.priors.trained_posterior import TrainedPosterior
from pnpkit.priors.unfolding.data_steps import AnyProblem
from pnpkit.priors.unfolding.network import noise_features


class ConcatenationNetwork(nn.Module):
    """E[x0 | x_t, y] from [x_t, operator.initial(y)] as channels (SR3, Saharia et al., TPAMI 2023).

    It learns the operators that it is trained on; ``UnfoldingNetwork`` is given them. At the highest noise level x_t
    says nothing, and this is the U-Net that improves a first image.
    """

    def __init__(self, unet: dict[str, Any], mean: float, std: float, complex: bool = False):
        super().__init__()
        self.config = {"unet": unet, "mean": mean, "std": std, "complex": complex}
        self.std, self.mean, self.complex = std, mean, complex
        self.blocks: Any = nn.ModuleList([Preconditioned(UNet(**unet), mean, std)])
        self.time = nn.Linear(2, self.blocks[0].network.embed[0].out_features)
        nn.init.zeros_(self.time.weight)
        nn.init.zeros_(self.time.bias)

    def forward(
        self, x: torch.Tensor, sigma: torch.Tensor, problem: AnyProblem, bodies: list[Body] | None = None
    ) -> list[torch.Tensor]:
        """[E[x0 | x_t = x, y]], x (B, C, H, W), sigma (B,)."""
        block = self.blocks[0]
        e = block.network.embedding(noise_coordinate(sigma, self.std))
        e = e + self.time(noise_features(sigma, problem.noise_level, self.std))
        run = block.network if bodies is None else bodies[0]
        with torch.no_grad():
            seen = (problem.initial() - self.mean) / self.std

        def network(both: torch.Tensor) -> torch.Tensor:
            z, condition = halves(both, self.complex)
            return block.applied(z, sigma, e, run, condition)

        return [on_real_images(network, torch.cat([x, seen], 1), block.network.multiple)]


class Concatenated(TrainedPosterior):
    """E[x0 | x_t, y] by a network that sees x_t and a first image from the data: for the operators it was trained on.

    The usual conditional diffusion model, and what Diff-Unfolding is compared with; with one step of the posterior
    sampler it is a plain reconstruction U-Net.

    Parameters
    ----------
    weights : a .safetensors file written by ``pnpkit train`` with ``network: concatenation`` in its recipe.
    arithmetic, compiled : as in ``DiffUnfolding``.
    """

    form = "pnpkit-concatenation-1"

    @classmethod
    def network(cls) -> type[nn.Module]:
        return ConcatenationNetwork

    @classmethod
    def example(cls) -> Self:
        return cls(weights="concatenation_photos.safetensors")
