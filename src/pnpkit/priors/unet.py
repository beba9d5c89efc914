"""The denoiser that ``pnpkit train`` makes."""

from typing import Literal, Self

import torch

from pnpkit import native
from pnpkit.native import Backend
from pnpkit.priors.base import Denoiser, Domain
from pnpkit.priors.networks.convolution import use_native
from pnpkit.priors.networks.edm import Preconditioned, arithmetic_of
from pnpkit.priors.networks.shapes import on_real_images
from pnpkit.priors.networks.unet import UNet
from pnpkit.priors.weights import described, fill, find, load

FORMAT = "pnpkit-unet-1"


class UNetDenoiser(Denoiser):
    """D(x, sigma) by a noise-conditioned U-Net with EDM preconditioning (``networks.unet``, ``networks.edm``).

    Any height and width: images are extended by reflection to the multiple that the network needs, and cropped.
    Complex networks take the real and the imaginary part as channels, sigma per part.

    Parameters
    ----------
    weights : the name of shipped weights, or a .safetensors file written by ``pnpkit train``, which holds the
        architecture, the range of sigma and whether images are complex.
    arithmetic : "bfloat16" runs the convolutions in it: faster where the machine has it, about 0.01 dB worse.
    backend : "native" runs it in C++ (``pnpkit native build``; docs/native.md), "auto" does where it is built and the
        images are float32 on the CPU; where gradients are asked for, its 3×3 convolutions alone.
    compiled : run the network through ``torch.compile``: a minute at the first call of each image size, faster after.
    """

    def __init__(
        self,
        weights: str,
        arithmetic: Literal["float32", "bfloat16"] = "float32",
        compiled: bool = False,
        backend: Backend = "python",
    ):
        super().__init__()
        self.weights, self.arithmetic, self.compiled = weights, arithmetic, compiled
        self.backend: Backend = backend
        told = described(weights, FORMAT, "Other networks have their own priors: ffdnet, dncnn, drunet.")
        self.complex = told.pop("complex")
        low, high = told.pop("sigma_range")
        mean, std = told.pop("mean"), told.pop("std")
        with torch.random.fork_rng(devices=[]):  # the initial weights are overwritten; the global RNG is left alone
            network = UNet(**{**told, "widths": tuple(told["widths"])})
        state = load(weights)
        fill(network, {k: v.float() for k, v in state.items()}, weights)
        if compiled:
            network.compile()
        # Channels last: convolutions on the CPU are up to 1.4 times as fast.
        self.body = Preconditioned(network, mean, std).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.requires_grad_(False).eval()
        self._native = native.network(backend, find(weights), arithmetic == "bfloat16")
        if self._native is not None:
            use_native(network, "auto", arithmetic == "bfloat16")
        channels = 1 if self.complex else told["channels"]
        dtype = torch.complex64 if self.complex else torch.float32
        self.domain = Domain((channels, None, None), dtype, (low, high), None if self.complex else (0.0, 1.0))

    def _denoise(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        if self._native is not None and native.takes(self.backend, x):
            return self._native.denoise(x.contiguous(), sigma.contiguous())
        return on_real_images(lambda z: self._run(z, sigma), x, self.body.network.multiple)

    def _run(self, z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        with arithmetic_of(self.arithmetic, z.device):
            return self.body(z, sigma)

    @property
    def example_shape(self) -> tuple[int, ...]:
        return (self.domain.shape[0], 24, 20)  # type: ignore[index,return-value]

    @classmethod
    def example(cls) -> Self:
        return cls(weights="photos_gray")
