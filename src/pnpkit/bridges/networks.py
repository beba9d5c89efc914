"""Published denoising networks in deepinv's architectures, from converted weights (``pnpkit weights convert``)."""

from typing import Any, Literal, Self

import torch

from pnpkit.priors.base import Denoiser, Domain
from pnpkit.priors.weights import fill, load

TOP = 50 / 255  # the strongest noise that these networks were published for


class Published(Denoiser):
    """Base: a subclass builds its architecture and passes it to ``_load``; images in [0, 1]."""

    def _load(self, network: Any, weights: str, channels: int, lowest: float = 1e-4, highest: float = TOP) -> None:
        super().__init__()
        fill(network, load(weights), weights)
        self.network = network
        self.requires_grad_(False).eval()
        self.domain = Domain((channels, None, None), torch.float32, (lowest, highest), (0.0, 1.0))

    def _denoise(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return self.network(x, sigma)

    @property
    def example_shape(self) -> tuple[int, ...]:
        return (self.domain.shape[0], 64, 64)  # type: ignore[index,return-value]


class GSDRUNet(Published):
    """x − ∇g(x, sigma), g = ½‖x − DRUNet(x, sigma)‖² (Hurault, Leclaire & Papadakis, ICLR 2022); sigma up to 50/255.

    Its residual is a gradient, so PnP with it minimises a function. There is no gradient through the network itself.

    weights : .safetensors of GSDRUNet_torch.ckpt (RGB) or GSDRUNet_grayscale_torch.ckpt. channels : 3 or 1.
    """

    expected_failures = {"denoiser_gradient": "their network is itself a gradient and frees its graph"}

    def __init__(self, weights: str, channels: Literal[1, 3] = 3):
        from deepinv.models import GSDRUNet as Network

        with torch.random.fork_rng(devices=[]):  # the initial weights are overwritten; the global RNG is left alone
            network = Network(in_channels=channels, out_channels=channels, pretrained=None)
        self._load(network, weights, channels)
        self.weights, self.channels = weights, channels

    def _denoise(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return self.network(x, sigma).detach()

    @classmethod
    def example(cls) -> Self:
        return cls(weights="GSDRUNet_torch.safetensors")


class SCUNet(Published):
    """Swin-Conv-UNet (Zhang et al., 2023), RGB, blind: it estimates the noise itself and ignores sigma.

    weights : .safetensors of scunet_color_real_psnr.pth.
    """

    expected_failures = {"sigma_matters": "a blind denoiser estimates the noise by itself"}

    def __init__(self, weights: str):
        from deepinv.models import SCUNet as Network

        with torch.random.fork_rng(devices=[]):
            network = Network(pretrained=None)  # type: ignore[arg-type]
        self._load(network, weights, 3)
        self.weights = weights

    @classmethod
    def example(cls) -> Self:
        return cls(weights="scunet_color_real_psnr.safetensors")


class Restormer(Published):
    """Restormer for Gaussian denoising (Zamir et al., CVPR 2022), blind: it ignores sigma.

    weights : .safetensors of gaussian_color_denoising_blind.pth (channels 3) or gaussian_gray_denoising_blind.pth (1).
    """

    expected_failures = {"sigma_matters": "a blind denoiser estimates the noise by itself"}

    def __init__(self, weights: str, channels: Literal[1, 3] = 3):
        from deepinv.models import Restormer as Network

        with torch.random.fork_rng(devices=[]):
            network = Network(in_channels=channels, out_channels=channels, pretrained=None)
        self._load(network, weights, channels)
        self.weights, self.channels = weights, channels

    @classmethod
    def example(cls) -> Self:
        return cls(weights="gaussian_color_denoising_blind.safetensors")


class SwinIR(Published):
    """SwinIR for denoising (Liang et al., ICCVW 2021): a network for one noise level, which it is called at alone.

    weights : .safetensors of 005_colorDN_DFWB_s128w8_SwinIR-M_noise15.pth and its like (4 for grey). channels : 3 or 1.
    trained_sigma : the level in the file's name, of 255.
    """

    def __init__(self, weights: str, channels: Literal[1, 3] = 3, trained_sigma: float = 15 / 255):
        from deepinv.models import SwinIR as Network

        with torch.random.fork_rng(devices=[]):
            network = Network(in_chans=channels, pretrained=None)  # type: ignore[arg-type]
        self._load(network, weights, channels, trained_sigma, trained_sigma)
        self.weights, self.channels, self.trained_sigma = weights, channels, trained_sigma

    @classmethod
    def example(cls) -> Self:
        return cls(weights="005_colorDN_DFWB_s128w8_SwinIR-M_noise15.safetensors")
