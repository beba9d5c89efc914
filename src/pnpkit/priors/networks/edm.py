"""EDM's preconditioning: from a raw network F to the denoiser D."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from pnpkit.linalg import expand
from pnpkit.priors.networks.unet import UNet, noise_coordinate

Body = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (image, embedding) -> raw output


def arithmetic_of(name: str, device: torch.device) -> AbstractContextManager[None]:
    """Where convolutions are in bfloat16, if that is asked; "float32" leaves an autocast around it as it is."""
    return torch.autocast(device.type, torch.bfloat16) if name == "bfloat16" else nullcontext()  # type: ignore[return-value]


class Preconditioned(nn.Module):
    """D(x, s) = m + c_skip·(x − m) + c_out·F(c_in·(x − m), ln(s/d)/4) (Karras et al. 2022, eq. 7 and Table 1).

    c_skip = d²/(s² + d²), c_out = s·d/√(s² + d²), c_in = 1/√(s² + d²), with d the standard deviation of the images;
    their mean m is taken out first, which the paper's zero-mean images need not.
    """

    def __init__(self, network: UNet, mean: float, std: float):
        super().__init__()
        self.network, self.mean, self.std = network, mean, std

    def scales(self, sigma: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """c_skip, c_out, c_in for x, sigma (B,)."""
        s = expand(sigma, x)
        total = s * s + self.std**2
        return self.std**2 / total, s * self.std * total.rsqrt(), total.rsqrt()

    def forward(
        self,
        x: torch.Tensor,
        sigma: torch.Tensor,
        label: torch.Tensor | None = None,
        condition: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """E[x0 | x], x (B, C, H, W) with H and W multiples of ``network.multiple``, sigma (B,)."""
        e = self.network.embedding(noise_coordinate(sigma, self.std), label)
        return self.applied(x, sigma, e, self.network, condition)

    def applied(
        self,
        x: torch.Tensor,
        sigma: torch.Tensor,
        embedding: torch.Tensor,
        body: Body,
        condition: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """``forward`` with its embedding given, and ``body`` in the network's place: compiled, or in bfloat16."""
        skip, out, scale = self.scales(sigma, x)
        z = scale * (x - self.mean)
        raw = body(z if condition is None else torch.cat([z, condition], 1), embedding)
        return self.mean + skip * (x - self.mean) + out * raw.to(x.dtype)
