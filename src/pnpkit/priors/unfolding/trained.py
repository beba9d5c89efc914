"""Diff-Unfolding with trained weights."""

from abc import abstractmethod
from typing import Any, ClassVar, Literal, Self

import torch
from torch import nn

from pnpkit.priors.base import Domain, PosteriorDenoiser
from pnpkit.priors.networks.edm import Body
from pnpkit.priors.unfolding.network import UnfoldingNetwork
from pnpkit.priors.weights import described, fill, load
from pnpkit.problem import Problem


class TrainedPosterior(PosteriorDenoiser):
    """Base of posterior denoisers that ``pnpkit train`` makes.

    ``form`` is the files'.
    """

    form: ClassVar[str]

    def __init__(self, weights: str, arithmetic: Literal["float32", "bfloat16"] = "float32", compiled: bool = False):
        super().__init__()
        self.weights, self.arithmetic, self.compiled = weights, arithmetic, compiled
        told = described(weights, self.form, "Posterior denoisers are made by `pnpkit train`: docs/diff_unfolding.md.")
        low, high = told.pop("sigma_range")
        with torch.random.fork_rng(devices=[]):  # the initial weights are overwritten; the global RNG is left alone
            network: Any = self.network()(**told)
        fill(network, {k: v.float() for k, v in load(weights).items()}, weights)
        if compiled:
            for block in network.blocks:
                block.network.compile()
        self.body = network.to(memory_format=torch.channels_last)
        self.requires_grad_(False).eval()
        channels = 1 if told["complex"] else told["unet"]["channels"]
        dtype = torch.complex64 if told["complex"] else torch.float32
        self.domain = Domain((channels, None, None), dtype, (low, high), None if told["complex"] else (0.0, 1.0))

    @classmethod
    @abstractmethod
    def network(cls) -> type[nn.Module]:
        """What the description in a file rebuilds: forward(x, sigma, problem, what runs for its ``blocks``)."""

    def _posterior_denoise(self, x: torch.Tensor, sigma: torch.Tensor, problem: Problem) -> torch.Tensor:
        return self.body(x, sigma, problem, [self._counted(b.network) for b in self.body.blocks])[-1]

    def _counted(self, network: nn.Module) -> Body:
        def body(z: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
            self._count()
            with torch.autocast(z.device.type, torch.bfloat16, enabled=self.arithmetic == "bfloat16"):
                return network(z, embedding)

        return body

    @property
    def example_shape(self) -> tuple[int, ...]:
        return (self.domain.shape[0], 24, 20)  # type: ignore[index,return-value]

    @classmethod
    def example(cls) -> Self:
        return cls(weights=f"{cls.__name__.lower()}.safetensors")


class DiffUnfolding(TrainedPosterior):
    """E[x0 | x_t, y] by a trained unrolled network that meets the operator in its data steps only.

    So any linear operator with Gaussian noise can be put in at run time, trained on or not (Diff-Unfolding, Wang,
    Shoushtari & Kamilov 2025, arXiv 2505.11393; from its abstract: architecture, conditioning, training and sampling
    are reconstructions). Any height and width. Each call makes as many network calls as there are stages;
    ``calls["prior"]`` of a result counts them.

    Parameters
    ----------
    weights : the name of shipped weights, or a .safetensors file written by ``pnpkit train`` with ``posterior`` in its
        recipe, which holds the architecture, the range of sigma and whether images are complex.
    arithmetic : "bfloat16" runs the convolutions in it; data steps stay in float32.
    compiled : run the network through ``torch.compile``: a minute at the first call of each image size, faster after.
    """

    form = "pnpkit-unfolding-1"

    @classmethod
    def network(cls) -> type[nn.Module]:
        return UnfoldingNetwork

    @classmethod
    def example(cls) -> Self:
        return cls(weights="unfold_photos")
