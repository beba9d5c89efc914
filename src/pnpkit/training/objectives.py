"""What the training loop asks of an objective."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from pnpkit.priors.networks.convolution import use_native
from pnpkit.priors.networks.edm import Body
from pnpkit.training.data import Pool
from pnpkit.training.recipe import Recipe


class Objective(ABC):
    """One way to train a network: how it is built, what a batch is, what is minimised, how it is judged and saved."""

    prior: str  # the registered prior that reads the weights

    def __init__(self, recipe: Recipe):
        self.recipe = recipe

    @abstractmethod
    def build(self) -> nn.Module:
        """The network with the recipe's initial weights."""

    @abstractmethod
    def networks(self, model: nn.Module) -> list[nn.Module]:
        """The parts that are compiled and run in bfloat16: (image, embedding) -> image."""

    @abstractmethod
    def draw(self, pool: Pool, first: int, n: int) -> Any:
        """Samples ``first`` … ``first + n − 1``, each from its own seed, on the CPU."""

    @abstractmethod
    def moved(self, batch: Any, device: torch.device) -> Any:
        """A batch on the device."""

    @abstractmethod
    def loss(self, model: Any, bodies: list[Body], batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """(what is minimised, error per sample (B,))."""

    @abstractmethod
    def scores(self, model: Any, images: torch.Tensor) -> dict[str, float]:
        """Mean PSNR of the model on held-out images, by task."""

    @abstractmethod
    def saved(self, model: Any) -> tuple[str, dict[str, Any], dict[str, torch.Tensor]]:
        """(form of the file, what rebuilds the network, its tensors)."""

    def bodies(self, model: nn.Module, device: torch.device) -> list[Body]:
        """``networks``, compiled, in bfloat16 and with C++ convolutions where the recipe says so."""
        options = self.recipe.optimiser
        for network in self.networks(model):
            use_native(network, options.backend, options.bf16)

        def body(network: Callable[..., torch.Tensor]) -> Body:
            def run(z: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
                with torch.autocast(device.type, torch.bfloat16, enabled=options.bf16):
                    return network(z.contiguous(memory_format=torch.channels_last), embedding)

            return run

        return [body(torch.compile(n) if options.compile else n) for n in self.networks(model)]


def objective_of(recipe: Recipe) -> Objective:
    """Unrolled or conditional posterior denoisers where the recipe has such a section, else a denoiser."""
    from pnpkit.training.denoising import DenoisingScoreMatching
    from pnpkit.training.posterior import Posterior

    return DenoisingScoreMatching(recipe) if recipe.posterior is None else Posterior(recipe)
