"""Makers of kernels, masks and coil maps: registered functions that return tensors."""

import functools
from collections.abc import Callable
from typing import ParamSpec

import torch

from pnpkit.spec import checked

P = ParamSpec("P")


def validated(maker: Callable[P, torch.Tensor]) -> Callable[P, torch.Tensor]:
    """The maker with its arguments checked against its annotations, also when called from Python."""

    @functools.wraps(maker)
    def call(*args: P.args, **kwargs: P.kwargs) -> torch.Tensor:
        return maker(**checked(maker, args, kwargs))  # type: ignore[arg-type]

    return call
