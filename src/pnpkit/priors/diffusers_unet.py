"""Any ``UNet2DModel`` saved by diffusers."""

import json
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from pnpkit.errors import CapabilityError, WeightsError
from pnpkit.priors.adapt import from_vp
from pnpkit.priors.base import Denoiser, Domain
from pnpkit.priors.networks.shapes import extended
from pnpkit.priors.wrappers import Rescale
from pnpkit.processes import VP, Output

OUTPUTS: dict[str, Output] = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}


class DiffusersUNet(Denoiser):
    """An unconditional ``UNet2DModel`` as a denoiser of images in [0, 1].

    The path and what the network predicts are read from the scheduler's configuration (beta_start, beta_end,
    beta_schedule, trained_betas, num_train_timesteps, prediction_type). The network's images are in [-1, 1].

    Parameters
    ----------
    folder : as ``save_pretrained`` writes it: a pipeline (unet/ and scheduler/), or config.json and the safetensors of
        the network alone, with scheduler_config.json beside them or DDPM's defaults.
    """

    def __init__(self, folder: str):
        super().__init__()
        self.folder = folder
        place = Path(folder)
        network = _network(place / "unet" if (place / "unet").is_dir() else place)
        config: Any = network.config
        channels = config["in_channels"]
        if config["out_channels"] not in (channels, 2 * channels) or config.get("num_class_embeds"):
            raise CapabilityError(f"{folder}: a conditional UNet2DModel; bind its labels and use adapt.from_vp.")
        told = _scheduler(place)
        path, output = vp_path(told), OUTPUTS[told.get("prediction_type", "epsilon")]
        self.multiple = 2 ** (len(config["block_out_channels"]) - 1)
        domain = Domain((channels, None, None), value_range=(-1.0, 1.0))
        self.body = Rescale(denoiser=from_vp(Sample(network), domain, path, output))
        self.requires_grad_(False).eval()
        self.domain = self.body.domain

    def _denoise(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        return self.body(extended(x, self.multiple), sigma)[..., :height, :width]

    @property
    def example_shape(self) -> tuple[int, ...]:
        assert self.domain.shape is not None and self.domain.shape[0] is not None
        return (self.domain.shape[0], 4 * self.multiple, 4 * self.multiple)

    @classmethod
    def example(cls) -> Self:
        return cls(folder="ddpm-cifar10-32")


class Sample(nn.Module):
    """The tensor of diffusers' output object."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.network(z, t).sample


def _network(folder: Path) -> nn.Module:
    if not (folder / "config.json").is_file():
        raise WeightsError(
            f"{folder} holds no config.json: give the folder that diffusers' save_pretrained wrote, downloaded whole."
        )
    try:
        from diffusers.models.unets.unet_2d import UNet2DModel
    except ImportError as error:
        raise WeightsError("Networks of diffusers need it installed: pip install diffusers.") from error
    try:
        return UNet2DModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{folder} cannot be loaded as a UNet2DModel: {' '.join(str(error).split())}") from error


def _scheduler(folder: Path) -> dict[str, Any]:
    for path in (folder / "scheduler" / "scheduler_config.json", folder / "scheduler_config.json"):
        if path.is_file():
            return json.loads(path.read_text())
    return {}


def vp_path(config: dict[str, Any]) -> VP:
    """The path of a diffusers scheduler's configuration; CapabilityError for schedules that are not one."""
    if config.get("trained_betas") is not None:
        return VP.from_betas(torch.tensor(config["trained_betas"]))
    n, kind = config.get("num_train_timesteps", 1000), config.get("beta_schedule", "linear")
    first, last = config.get("beta_start", 1e-4), config.get("beta_end", 0.02)
    if kind == "linear":
        return VP.linear(first, last, n)
    if kind == "scaled_linear":
        return VP.from_betas(torch.linspace(first**0.5, last**0.5, n, dtype=torch.float64) ** 2)
    if kind == "squaredcos_cap_v2":
        return VP.cosine(n)
    raise CapabilityError(f"beta_schedule {kind!r} of the scheduler is not known; use adapt.from_vp with its betas.")
