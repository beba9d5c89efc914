"""A denoiser that ``pnpkit native export`` compiled."""

import json
from typing import Literal, Self

import torch

from pnpkit import native, registry
from pnpkit.errors import WeightsError
from pnpkit.native import Backend
from pnpkit.priors.base import Denoiser, Domain
from pnpkit.priors.weights import find

FILE, FORMAT = "package.json", "pnpkit-package-1"


class Packaged(Denoiser):
    """D(x, sigma) by machine code that was made of another prior's network (``pnpkit native export``).

    Real images, of the sizes that it was compiled for; float32 on the CPU, without gradients.

    Parameters
    ----------
    path : the folder of the package, as it is or in PNPKIT_WEIGHTS.
    backend : "native" raises where the code was made for another torch or processor, or the C++ backend is not built;
        "auto" then takes the prior that was exported, in Python, and so it does for gradients. Its weights are not in
        the package: they are looked for by their name.
    """

    def __init__(self, path: str, backend: Literal["native", "auto"] = "native"):
        super().__init__()
        self.path = path
        self.backend: Backend = backend
        file = find(f"{path}/{FILE}")
        try:
            told = json.loads(file.read_text())
            network, self._spec = told["network"], told["prior"]
            if told["format"] != FORMAT or "compiled" not in network:
                raise WeightsError(
                    f"{path} holds the weights of a {self._spec['name']}, not compiled code: give "
                    f"{network.get('file')} to that prior, with backend='native'."
                )
            low, high = network["sigma_range"]
            values = network["value_range"] and tuple(network["value_range"])
            self.domain = Domain((network["channels"], None, None), torch.float32, (low, high), values)
        except (ValueError, KeyError, TypeError) as error:
            raise WeightsError(f"{file} is damaged ({error!r}); export it again.") from error
        self._native = native.network(backend, file.parent)
        self._python: list[Denoiser] = []  # made when it is needed; in a list, its weights are not this module's

    def _denoise(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        if self._native is not None and native.takes(self.backend, x):
            return self._native.denoise(x.contiguous(), sigma.contiguous())
        if not self._python:
            self._python.append(registry.prior(self._spec))
        prior = self._python[0]
        if prior.domain.dtype != x.dtype or x.device.type != "cpu":  # torch.func allows no ``to``, needed or not
            prior = prior.to(x.device, x.dtype)
        return prior._denoise(x, sigma)

    @property
    def example_shape(self) -> tuple[int, ...]:
        return (self.domain.shape[0], 32, 32)  # type: ignore[index,return-value]

    @classmethod
    def example(cls) -> Self:
        return cls(path="package")
