"""A chain of 3×3 convolutions with ReLU between: FFDNet's and DnCNN's body."""

from torch import nn


def plain_cnn(widths: tuple[int, ...], bias: bool = True) -> nn.Sequential:
    """Convolutions ``widths[0] → widths[1] → …`` at indices 0, 2, 4, …, ReLU between."""
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        layers.append(nn.Conv2d(a, b, 3, padding=1, bias=bias))
        if i < len(widths) - 2:
            layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
