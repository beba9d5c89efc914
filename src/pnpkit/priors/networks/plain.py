"""A chain of 3×3 convolutions with ReLU between: FFDNet's and DnCNN's body."""

import itertools

import torch
from torch import nn


def plain_cnn(widths: tuple[int, ...], bias: bool = True) -> nn.Sequential:
    """Convolutions ``widths[0] → widths[1] → …`` at indices 0, 2, 4, …, ReLU between."""
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):  # the initial weights are overwritten; the global RNG is left alone
        for i, (a, b) in enumerate(itertools.pairwise(widths)):
            layers.append(nn.Conv2d(a, b, 3, padding=1, bias=bias))
            if i < len(widths) - 2:
                layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
