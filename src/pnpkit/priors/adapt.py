"""Networks of other conventions as denoisers: variance-exploding, variance-preserving, EDM; eps, v, score, x0."""

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import torch
from torch import nn

from pnpkit.errors import ShapeError, SpecError
from pnpkit.linalg import expand
from pnpkit.priors.base import Denoiser, Domain
from pnpkit.processes import VP, Output

Network = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Adapted(Denoiser):
    """A network called in its own convention; made by ``from_ve``, ``from_vp``, ``from_edm``, … and not by name.

    Bind labels and other conditions beforehand: ``lambda x, t: net(x, t, label)``.
    """

    def __init__(self, network: object, output: Output, path: object, domain: object):
        super().__init__()
        self.network, self.output, self.path = network, output, path
        self.domain: Domain = domain  # type: ignore[assignment]
        if isinstance(network, nn.Module):
            network.requires_grad_(False).eval()

    def _denoise(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        s = expand(sigma, x)
        if not isinstance(self.path, VP):
            out = self._called(x, sigma)
            return x + s * s * out if self.output == "score" else out
        c = (1 + s * s).rsqrt()
        out = self._called(c * x, self.path.time(sigma.clamp(*self.path.sigma_range)))
        if self.output == "eps":
            return x - s * out
        if self.output == "score":
            return x + c * s * s * out
        return c * c * x - s * c * out if self.output == "v" else out

    def _called(self, z: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """The network's output, or its first half where it also predicts variances (ADM)."""
        out = self.network(z, level)  # type: ignore[operator]
        if out.shape == (z.shape[0], 2 * z.shape[1], *z.shape[2:]):
            return out.chunk(2, 1)[0]
        if out.shape != z.shape:
            raise ShapeError(f"The network gave {tuple(out.shape)} for images {tuple(z.shape)}.")
        return out


def from_edm(network: Network, domain: Domain) -> Denoiser:
    """network(x, sigma) is already E[x0 | x0 + sigma·n = x] (Karras et al. 2022); sigma is (B,)."""
    return Adapted(network=network, output="x0", path=None, domain=domain)


def from_ve(network: Network, domain: Domain) -> Denoiser:
    """network(x, sigma) is the score ∇ log p_sigma(x) (Song et al. 2021): D = x + sigma²·score."""
    return Adapted(network=network, output="score", path=None, domain=domain)


def from_vp(network: Network, domain: Domain, path: VP | None = None, output: Output = "eps") -> Denoiser:
    """network(z, t) of a variance-preserving model, z = c·x with c = √ᾱ_t = 1/√(1 + sigma²), t (B,) fractional.

    output : "eps": D = x − sigma·eps; "score" ∇ log p(z): D = x + c·sigma²·score (score-PnP, arXiv 2412.11108,
        algorithm 1, with the x that its code drops); "v" (Salimans & Ho 2022): D = c·z − √(1 − c²)·v; "x0": D itself.
    path : DDPM's linear betas unless given. Networks that look t up in a table need integers: round it in ``network``.

    The domain's sigma_range is cut to what the path reaches (0.01 to 157 for the linear one): outside it raises.
    """
    path = VP.linear() if path is None else path
    if output not in get_args(Output):
        raise SpecError(f"from_vp: output is 'eps', 'v', 'score' or 'x0', given {output!r}.")
    low, high = (f(a, b) for f, a, b in zip((max, min), domain.sigma_range, path.sigma_range, strict=True))
    return Adapted(network=network, output=output, path=path, domain=replace(domain, sigma_range=(low, high)))


def from_eps(network: Network, domain: Domain, path: VP | None = None) -> Denoiser:
    """network(z, t) predicts the noise of a variance-preserving path: DDPM, ADM, diffusers' default."""
    return from_vp(network, domain, path, "eps")


def from_v(network: Network, domain: Domain, path: VP | None = None) -> Denoiser:
    """network(z, t) predicts v = c·n − √(1 − c²)·x0 (Salimans & Ho 2022)."""
    return from_vp(network, domain, path, "v")
