"""DRUNet through deepinv's architecture."""

from typing import Literal, Self

import torch

from pnpkit.priors.base import Denoiser, Domain
from pnpkit.priors.weights import fill, load


class DRUNet(Denoiser):
    """DRUNet (Zhang et al., DPIR, TPAMI 2021), 32.6 M parameters; architecture and padding are deepinv's.

    Images in [0, 1]; sigma from 0 to 50/255, as published.

    Parameters
    ----------
    weights : .safetensors with deepinv's (= KAIR's) names; convert drunet_gray.pth with ``pnpkit weights convert``.
    channels : 1 (grey) or 3 (RGB).
    """

    def __init__(self, weights: str, channels: Literal[1, 3] = 1):
        from deepinv.models import DRUNet as Network

        super().__init__()
        self.weights, self.channels = weights, channels
        with torch.random.fork_rng(devices=[]):  # the initial weights are overwritten; the global RNG is left alone
            self.body = Network(in_channels=channels, out_channels=channels, pretrained=None, device="cpu")
        fill(self.body, load(weights), weights)
        self.requires_grad_(False).eval()
        self.domain = Domain((channels, None, None), torch.float32, (1e-4, 50 / 255), (0.0, 1.0))

    def _denoise(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return self.body(x, sigma)

    @property
    def example_shape(self) -> tuple[int, ...]:
        return (self.channels, 32, 32)

    @classmethod
    def example(cls) -> Self:
        return cls(weights="drunet_gray.safetensors")
