"""What posterior denoisers with weights of ``pnpkit train`` have in common."""

from abc import abstractmethod
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from pnpkit import native
from pnpkit.native import Backend
from pnpkit.priors.base import Domain, PosteriorDenoiser
from pnpkit.priors.native_problem import twin
from pnpkit.priors.networks.edm import Body, arithmetic_of
from pnpkit.priors.weights import described, fill, find, load
from pnpkit.problem import Problem


class TrainedPosterior(PosteriorDenoiser):
    """Base of posterior denoisers that ``pnpkit train`` makes.

    ``form`` is the files'.
    """

    form: ClassVar[str]

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
        self._native = native.network(backend, find(weights), arithmetic == "bfloat16")
        channels = 1 if told["complex"] else told["unet"]["channels"]
        dtype = torch.complex64 if told["complex"] else torch.float32
        self.domain = Domain((channels, None, None), dtype, (low, high), None if told["complex"] else (0.0, 1.0))

    @classmethod
    @abstractmethod
    def network(cls) -> type[nn.Module]:
        """What the description in a file rebuilds: forward(x, sigma, problem, what runs for its ``blocks``)."""

    def _posterior_denoise(self, x: torch.Tensor, sigma: torch.Tensor, problem: Problem) -> torch.Tensor:
        if self._native is None or not native.takes(self.backend, x, problem.y):
            return self.body(x, sigma, problem, [self._counted(b.network) for b in self.body.blocks])[-1]
        handed = twin(problem)
        if handed is None:  # Python's data steps around the native network
            return self.body(x, sigma, problem, [self._native_body(k) for k in range(len(self.body.blocks))])[-1]
        for _ in range(self.body.stages):
            self._count()
            if problem.operator._counter is not None:
                problem.operator._counter.prox += 1
        return self._native.posterior_denoise(x.contiguous(), sigma.contiguous(), handed)

    def _native_body(self, k: int) -> Body:
        def body(z: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
            self._count()
            return self._native.body(k, z, embedding)

        return body

    def _counted(self, network: nn.Module) -> Body:
        def body(z: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
            self._count()
            with arithmetic_of(self.arithmetic, z.device):
                return network(z, embedding)

        return body

    @property
    def example_shape(self) -> tuple[int, ...]:
        return (self.domain.shape[0], 24, 20)  # type: ignore[index,return-value]
