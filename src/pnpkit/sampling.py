"""Unconditional sampling: images drawn from a denoiser, by its probability flow or its reverse diffusion.

Posterior denoisers are sampled the same way: ``sample(posterior.given(problem), …)``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch

from pnpkit.errors import CapabilityError, SpecError, suggest
from pnpkit.likelihoods import randn_like
from pnpkit.priors.base import Denoiser, PriorCounter
from pnpkit.processes import edm_sigmas
from pnpkit.seeds import stream
from pnpkit.types import Shape

Method = Literal["heun", "ddim", "ancestral", "langevin"]
Denoise = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Drawn:
    """Samples (n, *shape), and how many network calls each took."""

    x: torch.Tensor
    calls: int


def sample(
    denoiser: Denoiser,
    shape: Shape,
    n: int = 1,
    method: Method = "heun",
    n_steps: int = 18,
    seed: int = 0,
    sigma_max: float | None = None,
    sigma_min: float | None = None,
    progress: Callable[[int, torch.Tensor], None] | None = None,
) -> Drawn:
    """n images (n, *shape) from noise, gradients off.

    method : "heun": EDM's second-order solver of the probability flow (Karras et al. 2022, algorithm 1), 2·n_steps − 1
        calls. "ddim": its first-order form, the DDIM of eta = 0 (Song et al. 2021), n_steps calls. "ancestral": DDPM's
        reverse steps in noise levels (Ho et al. 2020; Song et al. 2021b, eq. 47), n_steps calls. "langevin": annealed
        Langevin with Tweedie scores (Song & Ermon 2019, algorithm 1), five steps a level, 5·n_steps calls.
    sigma_max, sigma_min : first and last noise level, in units of the images; None: the ends of the denoiser's range,
        but at least 1/1000 and at most 200 times its value range. The last level is left by one denoising step.
    progress : called with the step and the current images.
    """
    if method not in get_args(Method):
        raise SpecError(f"sample: no method {method!r}.{suggest(method, get_args(Method))}")
    if n < 1 or n_steps < 2:
        raise SpecError(f"sample: n ≥ 1 and n_steps ≥ 2, given {n} and {n_steps}.")
    if reason := denoiser.misfit(shape, denoiser.domain.dtype):
        raise CapabilityError(f"sample: {type(denoiser).__name__}: {reason}.")
    low, high = _levels(denoiser, sigma_min, sigma_max)
    device = next((t.device for t in denoiser.buffers()), None) or next(
        (t.device for t in denoiser.parameters()), torch.device("cpu")
    )
    rng, counter = stream(seed, device), PriorCounter()
    counted = denoiser.counted(counter)
    sigmas = edm_sigmas(n_steps, low, high).to(denoiser.domain.dtype.to_real()).tolist()
    x = sigmas[0] * randn_like(torch.zeros(n, *shape, dtype=denoiser.domain.dtype, device=device), rng)
    step = STEPS[method]
    with torch.no_grad():
        for k, (now, then) in enumerate(pairwise(sigmas)):
            x = step(counted, x, now, then, rng)
            if progress is not None:
                progress(k, x)
    return Drawn(x, counter.calls)


def _levels(denoiser: Denoiser, sigma_min: float | None, sigma_max: float | None) -> tuple[float, float]:
    low, high = denoiser.domain.sigma_range
    span = denoiser.domain.value_range
    width = 1.0 if span is None else span[1] - span[0]
    first = min(high, 200 * width) if sigma_max is None else sigma_max
    last = max(low, 1e-3 * width) if sigma_min is None else sigma_min
    if not low <= last < first <= high:
        raise CapabilityError(
            f"sample: sigma_min {last:g} < sigma_max {first:g} must lie in the denoiser's range [{low:g}, {high:g}]."
        )
    return last, first


# --- one step from noise level ``now`` to ``then`` ---


def heun_step(d: Denoiser, x: torch.Tensor, now: float, then: float, rng: torch.Generator) -> torch.Tensor:
    """EDM, algorithm 1: Euler along (x − D)/sigma, corrected by the slope at its end; no correction to zero."""
    slope = (x - d(x, now)) / now
    ahead = x + (then - now) * slope
    if then == 0:
        return ahead
    return x + (then - now) * 0.5 * (slope + (ahead - d(ahead, then)) / then)


def ddim_step(d: Denoiser, x: torch.Tensor, now: float, then: float, rng: torch.Generator) -> torch.Tensor:
    """D + (then/now)·(x − D)."""
    clean = d(x, now)
    return clean + (then / now) * (x - clean)


def ancestral_step(d: Denoiser, x: torch.Tensor, now: float, then: float, rng: torch.Generator) -> torch.Tensor:
    """A draw of p(x_then | x_now, x0 = D): mean D + (then/now)²·(x − D), variance then²·(1 − then²/now²)."""
    clean = d(x, now)
    mean = clean + (then / now) ** 2 * (x - clean)
    return mean if then == 0 else mean + then * (1 - (then / now) ** 2) ** 0.5 * randn_like(x, rng)


def langevin_step(
    d: Denoiser, x: torch.Tensor, now: float, then: float, rng: torch.Generator, repeats: int = 5, size: float = 0.3
) -> torch.Tensor:
    """``repeats`` steps x + a·score + √(2a)·n with a = size·sigma² at level ``now``; at the last level, then D."""
    for _ in range(repeats):
        x = x + size * (d(x, now) - x) + (2 * size) ** 0.5 * now * randn_like(x, rng)
    return d(x, now) if then == 0 else x


STEPS = {"heun": heun_step, "ddim": ddim_step, "ancestral": ancestral_step, "langevin": langevin_step}
