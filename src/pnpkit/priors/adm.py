"""Guided-diffusion (ADM) checkpoints through deepinv's architecture."""

from typing import Self

import torch
from torch import nn

from pnpkit.priors.adapt import from_eps
from pnpkit.priors.base import Denoiser, Domain
from pnpkit.priors.networks.shapes import extended
from pnpkit.priors.weights import fill, load
from pnpkit.priors.wrappers import Rescale

TABLES = ("sqrt_1m_alphas_cumprod", "sqrt_alphas_cumprod")  # deepinv's own, not in checkpoints


class ADM(Denoiser):
    """The unconditional ADM networks as denoisers of RGB images in [0, 1] (Dhariwal & Nichol 2021; Choi et al. 2021).

    They predict noise and variances of DDPM's linear path for images in [-1, 1]: the variances are dropped, the range
    and sigma are converted (``Rescale``), any noise level on the path is met by a fractional time step. sigma from
    0.005 to 78. Heights and widths are extended to multiples of 32 by reflection; the networks were trained on 256×256.

    Parameters
    ----------
    weights : .safetensors; diffusion_ffhq_10m.pt or 256x256_diffusion_uncond.pt after ``pnpkit weights convert``.
    large : the 552.8 M network of ImageNet; False: the 93.6 M one of FFHQ.
    """

    def __init__(self, weights: str, large: bool = False):
        from deepinv.models import DiffUNet

        super().__init__()
        self.weights, self.large = weights, large
        with torch.random.fork_rng(devices=[]):  # the initial weights are overwritten; the global RNG is left alone
            network = DiffUNet(in_channels=3, out_channels=6, large_model=large, pretrained=None)  # type: ignore[arg-type]
        tables = {k: v for k, v in network.state_dict().items() if k in TABLES}
        fill(network, {k: v.float() for k, v in {**tables, **load(weights)}.items()}, weights)
        inner = from_eps(TimeStep(network), Domain((3, None, None), value_range=(-1.0, 1.0)))
        self.body = Rescale(denoiser=inner)
        self.requires_grad_(False).eval()
        self.domain = self.body.domain

    def _denoise(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        return self.body(extended(x, 32), sigma)[..., :height, :width]

    @property
    def example_shape(self) -> tuple[int, ...]:
        return (3, 32, 32)

    @classmethod
    def example(cls) -> Self:
        return cls(weights="diffusion_ffhq_10m.safetensors")


class TimeStep(nn.Module):
    """deepinv's network in the authors' convention: noise and variances from z and t."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.network.forward_diffusion(z, t)  # type: ignore[operator]
