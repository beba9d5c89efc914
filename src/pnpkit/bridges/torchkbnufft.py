"""torchkbnufft's modules as operators."""

import copy
from typing import Any

import torch
from torch import nn

from pnpkit.bridges.wrapped import WrappedTensors
from pnpkit.errors import ShapeError
from pnpkit.operators.base import LinearOperator


def from_torchkbnufft(
    nufft: Any,
    adjoint: Any,
    omega: torch.Tensor,
    maps: torch.Tensor | None = None,
    norm: str | None = None,
) -> LinearOperator:
    """``KbNufft`` and ``KbNufftAdjoint`` of one image size: (1, *im_size) -> (coils or 1, M), complex.

    Their pair is adjoint to about 1e-6, and differs from the Fourier sum by the error of its interpolation.

    omega : (dims, M) in radians a pixel, as they take it. maps : coil maps (C, *im_size). norm : None or "ortho".
    """
    size = tuple(int(n) for n in nufft.im_size)
    if tuple(int(n) for n in adjoint.im_size) != size:
        raise ShapeError(f"from_torchkbnufft: im_size {size} of the NUFFT, {tuple(adjoint.im_size)} of its adjoint.")
    if omega.ndim != 2 or omega.shape[0] != len(size):
        raise ShapeError(f"from_torchkbnufft: omega is ({len(size)}, M), given {tuple(omega.shape)}.")
    if maps is not None and tuple(maps.shape[1:]) != size:
        raise ShapeError(f"from_torchkbnufft: maps are (C, {', '.join(map(str, size))}), given {tuple(maps.shape)}.")
    to, back = (Call(copy.deepcopy(module), omega, maps, norm) for module in (nufft, adjoint))
    return WrappedTensors(
        owner=nn.ModuleList([to, back]),
        mapping=to,
        adjoint_mapping=back,
        prox_mapping=None,
        in_shape=(1, *size),
        out_shape=(1 if maps is None else maps.shape[0], omega.shape[1]),
        complex_in=True,
        complex_out=True,
    ).to(omega.dtype)


class Call(nn.Module):
    """One of their modules with its other arguments."""

    omega: torch.Tensor

    def __init__(self, module: nn.Module, omega: torch.Tensor, maps: torch.Tensor | None, norm: str | None):
        super().__init__()
        self.module, self.norm = module, norm
        self.register_buffer("omega", omega)
        self.register_buffer("maps", None if maps is None else maps[None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(x, self.omega, smaps=self.maps, norm=self.norm)
