"""A compact noise-conditioned U-Net, fully convolutional."""

import math
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from pnpkit.errors import SpecError
from pnpkit.priors.networks.convolution import Conv3x3

FEATURES = 32  # sine and cosine features of the noise level


class UNet(nn.Module):
    """F(x, c): residual blocks without normalisation, strided down- and up-sampling, skips by addition.

    A reconstruction of what EDM (Karras et al., NeurIPS 2022) and DRUNet (Zhang et al., TPAMI 2022) have in common,
    made for CPUs: few channels at full resolution, no normalisation layers, every block's second convolution starts at
    zero so that the network starts as its skip path. The noise level enters every block as a scale and a shift.

    channels : of the image; conditions : further input channels (a CT slice, an edge map).
    widths : channels per resolution, the first at full resolution. blocks : per resolution and direction.
    middle : blocks at the coarsest resolution; as many as elsewhere when None.
    attention : self-attention after the blocks of the coarsest resolution.
    classes : number of labels, 0 for none; label ``classes`` means "no label".
    """

    def __init__(
        self,
        channels: int = 1,
        widths: tuple[int, ...] = (48, 96, 176, 208),
        blocks: int = 2,
        conditions: int = 0,
        attention: bool = False,
        classes: int = 0,
        middle: int | None = None,
    ):
        super().__init__()
        if not widths or min(widths) < 1 or blocks < 1 or channels < 1:
            raise SpecError(f"UNet: channels, widths and blocks must be ≥ 1, given {channels}, {widths}, {blocks}.")
        self.config = {"channels": channels, "widths": tuple(widths), "blocks": blocks, "conditions": conditions}
        self.config |= {"attention": attention, "classes": classes} | ({} if middle is None else {"middle": middle})
        embedding = 4 * widths[0]
        frequencies = 0.5 * 2.0 ** torch.linspace(0, 6, FEATURES // 2)
        self.frequencies: torch.Tensor
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.embed = nn.Sequential(
            nn.Linear(FEATURES, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )
        self.labels = nn.Embedding(classes + 1, embedding) if classes else None
        self.log_loss = nn.Linear(embedding, 1)  # ln of the expected loss at a noise level; used in training only
        self.head = nn.Conv2d(channels + conditions, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for fine, coarse in pairwise(widths):
            self.down.append(Stage(fine, blocks, embedding))
            self.down.append(nn.Conv2d(fine, coarse, 2, stride=2))
            self.up.append(Stage(fine, blocks, embedding))
            self.up.append(nn.ConvTranspose2d(coarse, fine, 2, stride=2))
        self.middle = Stage(widths[-1], blocks if middle is None else middle, embedding)
        self.attention = Attention(widths[-1]) if attention else None
        self.tail = nn.Conv2d(widths[0], channels, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.log_loss.weight)
        nn.init.zeros_(self.log_loss.bias)

    @property
    def multiple(self) -> int:
        """Heights and widths must be multiples of this."""
        return 2 ** (len(self.config["widths"]) - 1)

    def embedding(self, c: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        """(B, E) from the noise coordinate c (B,) and labels (B,)."""
        angles = c[:, None] * self.frequencies
        e = self.embed(torch.cat([angles.cos(), angles.sin()], 1))
        if self.labels is None:
            return e
        none = torch.full(c.shape, self.config["classes"], device=c.device)
        return e + self.labels(none if label is None else label)

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """x (B, channels + conditions, H, W) -> (B, channels, H, W)."""
        x = self.head(x)
        skips = []
        for stage, coarser in pairs(self.down):
            x = stage(x, embedding)
            skips.append(x)
            x = coarser(x)
        x = self.middle(x, embedding)
        if self.attention is not None:
            x = self.attention(x)
        for stage, finer in reversed(pairs(self.up)):
            x = stage(finer(x) + skips.pop(), embedding)
        return self.tail(functional.silu(x))


def pairs(modules: nn.ModuleList) -> list[tuple[nn.Module, nn.Module]]:
    """(stage, resampling) of each resolution."""
    return list(zip(modules[::2], modules[1::2], strict=True))


class Stage(nn.Module):
    """Residual blocks at one resolution."""

    def __init__(self, width: int, blocks: int, embedding: int):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, embedding) for _ in range(blocks))

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x, embedding)
        return x


class Block(nn.Module):
    """x + conv(silu((1 + a)·conv(silu(x)) + b)), a and b from the embedding."""

    def __init__(self, width: int, embedding: int):
        super().__init__()
        self.first = Conv3x3(width, width)
        self.modulate = nn.Linear(embedding, 2 * width)
        self.second = Conv3x3(width, width)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        a, b = self.modulate(embedding)[:, :, None, None].chunk(2, 1)
        h = self.first(functional.silu(x))
        return x + self.second(functional.silu(h * (1 + a) + b))


class Attention(nn.Module):
    """x + self-attention over all pixels, on inputs of unit length per pixel."""

    def __init__(self, width: int, heads: int = 4):
        super().__init__()
        if width % heads:
            raise SpecError(f"UNet: attention needs a last width divisible by {heads}, given {width}.")
        self.heads = heads
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        unit = x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-6)
        q, k, v = self.qkv(unit).reshape(b, 3, self.heads, c // self.heads, h * w).transpose(-1, -2).unbind(1)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        return x + self.out(mixed.transpose(-1, -2).reshape(b, c, h, w))


def noise_coordinate(sigma: torch.Tensor, std: float) -> torch.Tensor:
    """c(sigma) = ln(sigma/std)/4 (EDM, Table 1, in units of the data)."""
    return torch.log(sigma / std) / 4


def count(network: nn.Module) -> int:
    """Number of parameters."""
    return sum(math.prod(p.shape) for p in network.parameters())
