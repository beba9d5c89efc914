"""FFDNet: one network for a range of noise levels."""

from typing import Literal, Self

import torch
from torch.nn import functional

from pnpkit.errors import WeightsError
from pnpkit.priors.base import Denoiser, Domain
from pnpkit.priors.networks.plain import plain_cnn
from pnpkit.priors.weights import fill, load

WIDTH, DEPTH = {1: 64, 3: 96}, {1: 15, 3: 12}


class FFDNet(Denoiser):
    """FFDNet (Zhang, Zuo & Zhang, TIP 2018): works on the four sub-images of x and a noise-level map.

    Images in [0, 1], any size (odd sizes are extended by one replicated row or column and cropped); sigma from 0 to
    75/255, as trained. Cards of the files: benchmarks/results/denoisers.md.

    Parameters
    ----------
    weights : .npz ("w{i}", "b{i}") or .safetensors (this network's own names); see ``weights.find`` for where it looks.
    channels : 1 (grey) or 3 (RGB).
    """

    def __init__(self, weights: str, channels: Literal[1, 3] = 1):
        super().__init__()
        self.weights, self.channels = weights, channels
        c, n = 4 * channels, DEPTH[channels]
        self.body = plain_cnn((c + 1, *[WIDTH[channels]] * (n - 1), c))
        state = load(weights)
        fill(self.body, _named(state) if "w0" in state else state, weights)
        self.requires_grad_(False).eval()
        self.domain = Domain((channels, None, None), torch.float32, (1e-4, 75 / 255), (0.0, 1.0))

    def _denoise(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        even = functional.pad(x, (0, width % 2, 0, height % 2), mode="replicate")
        parts = _down(even)
        level = sigma.reshape(-1, 1, 1, 1).expand(-1, 1, *parts.shape[-2:])
        clean = self.body(torch.cat([parts, level.to(parts.dtype)], 1))
        return _up(clean)[..., :height, :width]

    @property
    def example_shape(self) -> tuple[int, ...]:
        return (self.channels, 32, 32)

    @classmethod
    def example(cls) -> Self:
        return cls(weights="FFDNet_gray.npz")


def _down(x: torch.Tensor) -> torch.Tensor:
    """(B, C, 2h, 2w) -> (B, 4C, h, w): per channel the pixels 00, 10, 01, 11 of each 2×2 block (row, column)."""
    b, c, h, w = x.shape
    return x.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 1, 5, 3, 2, 4).reshape(b, 4 * c, h // 2, w // 2)


def _up(parts: torch.Tensor) -> torch.Tensor:
    """The inverse of ``_down``."""
    b, c, h, w = parts.shape
    return parts.reshape(b, c // 4, 2, 2, h, w).permute(0, 1, 4, 3, 5, 2).reshape(b, c // 4, 2 * h, 2 * w)


def _named(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """ "w3", "b3" -> "6.weight", "6.bias": convolutions alternate with ReLUs."""
    try:
        return {f"{2 * int(k[1:])}.{'weight' if k[0] == 'w' else 'bias'}": v for k, v in state.items()}
    except ValueError as error:
        raise WeightsError(f"FFDNet: the file's names {sorted(state)[:4]}… are not w0, b0, w1, ….") from error
