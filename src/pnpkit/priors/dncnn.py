"""DnCNN: a residual denoiser for one noise level."""

from typing import Self

import torch
from pydantic import PositiveFloat

from pnpkit.errors import WeightsError
from pnpkit.priors.base import Denoiser, Domain
from pnpkit.priors.networks.plain import plain_cnn
from pnpkit.priors.weights import fill, load


class DnCNN(Denoiser):
    """x − net(x) (Zhang et al., TIP 2017): a chain of convolutions that predicts the noise of one level.

    Other levels are reached by scaling, with c = s/trained_sigma: D(x, s) = x − c·net(x/c) above the trained one, exact
    for a prior that is scale-invariant; x − c·net(x) below, where images of higher contrast than any photograph would
    meet the network (on Set12's first image at 5/255: 35.3 dB against 24.7 for scaling, 34.1 for the noisy image).
    ``rescale=False`` refuses other levels.

    Parameters
    ----------
    weights : .safetensors (``pnpkit weights convert dncnn_25.pth …``); any chain of 3×3 convolutions.
    trained_sigma : noise level it was trained for, images in [0, 1].
    rescale : whether other levels are allowed, from a quarter to four times it.
    """

    def __init__(self, weights: str, trained_sigma: PositiveFloat = 25 / 255, rescale: bool = True):
        super().__init__()
        self.weights, self.trained_sigma, self.rescale = weights, trained_sigma, rescale
        state = _chain(load(weights), weights)
        kernels = [v for k, v in state.items() if k.endswith("weight")]
        widths = (kernels[0].shape[1], *(k.shape[0] for k in kernels))
        self.body = plain_cnn(widths, bias="0.bias" in state)
        fill(self.body, state, weights)
        self.requires_grad_(False).eval()
        span = 4.0 if rescale else 1.0
        sigmas = (trained_sigma / span, trained_sigma * span)
        self.domain = Domain((widths[0], None, None), torch.float32, sigmas, (0.0, 1.0))

    def _denoise(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        if not self.rescale:
            return x - self.body(x)
        c = (sigma / self.trained_sigma).reshape(-1, 1, 1, 1)
        return x - c * self.body(x / c.clamp_min(1))

    @property
    def example_shape(self) -> tuple[int, ...]:
        return (1, 24, 24)

    @classmethod
    def example(cls) -> Self:
        return cls(weights="dncnn_25.safetensors")


def _chain(state: dict[str, torch.Tensor], source: str) -> dict[str, torch.Tensor]:
    """Convolutions of a checkpoint in file order of their numbers, renamed to 0, 2, 4, …."""
    # torch's spectral normalisation stores its own state beside the effective weight.
    state = {k: v for k, v in state.items() if not k.endswith(("_orig", "_u", "_v"))}
    stems = sorted({k.rpartition(".")[0] for k in state if k.endswith("weight")}, key=_number)
    if not stems or any(state[f"{s}.weight"].ndim != 4 for s in stems):
        raise WeightsError(f"{source} is not a chain of convolutions; names: {sorted(state)[:4]}….")
    named = {}
    for i, stem in enumerate(stems):
        for part in ("weight", "bias"):
            if f"{stem}.{part}" in state:
                named[f"{2 * i}.{part}"] = state[f"{stem}.{part}"]
    if len(named) != len(state):
        raise WeightsError(f"{source} holds more than convolutions: {sorted(set(state) - set(named))[:4]}….")
    return named


def _number(stem: str) -> int:
    digits = [p for p in stem.split(".") if p.isdigit()]
    return int(digits[-1]) if digits else 0
