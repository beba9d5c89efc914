"""The denoiser that ``pnpkit train`` makes."""

import json
from typing import Any, Literal, Self

import torch
from torch.nn import functional

from pnpkit.errors import WeightsError
from pnpkit.linalg import expand
from pnpkit.priors.base import Denoiser, Domain
from pnpkit.priors.networks.edm import Preconditioned
from pnpkit.priors.networks.unet import UNet
from pnpkit.priors.weights import fill, find, load, metadata

FORMAT = "pnpkit-unet-1"


class UNetDenoiser(Denoiser):
    """D(x, sigma) by a noise-conditioned U-Net with EDM preconditioning (``networks.unet``, ``networks.edm``).

    Any height and width: images are extended by reflection to the multiple that the network needs, and cropped.
    Complex networks take the real and the imaginary part as channels, sigma per part.

    Parameters
    ----------
    weights : the name of shipped weights, or a .safetensors file written by ``pnpkit train``, which holds the
        architecture, the range of sigma and whether images are complex.
    precision : "bfloat16" runs the convolutions in it: faster where the machine has it, about 0.01 dB worse.
    compile : run the network through ``torch.compile``: a minute at the first call of each image size, faster after.
    """

    def __init__(
        self, weights: str, precision: Literal["float32", "bfloat16"] = "float32", compile: bool = False
    ):
        super().__init__()
        self.weights, self.precision_of_network, self.compile = weights, precision, compile
        told = architecture(weights)
        self.complex = told.pop("complex")
        low, high = told.pop("sigma_range")
        mean, std = told.pop("mean"), told.pop("std")
        with torch.random.fork_rng(devices=[]):  # the initial weights are overwritten; the global RNG is left alone
            network = UNet(**{**told, "widths": tuple(told["widths"])})
        state = load(weights)
        fill(network, {k: v.float() for k, v in state.items()}, weights)
        self.body = Preconditioned(network, mean, std)
        self.requires_grad_(False).eval()
        channels = 1 if self.complex else told["channels"]
        dtype = torch.complex64 if self.complex else torch.float32
        self.domain = Domain((channels, None, None), dtype, (low, high), None if self.complex else (0.0, 1.0))
