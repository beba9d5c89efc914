"""PnP-DM: split Gibbs sampling with a diffusion prior."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, NamedTuple, Self

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from pnpkit.errors import SpecError, suggest
from pnpkit.likelihoods import randn_like
from pnpkit.linalg import expand
from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver
from pnpkit.solvers.diffusion import reverse_diffusion
from pnpkit.solvers.langevin import conditional
from pnpkit.solvers.schedules import couplings, fitted
from pnpkit.solvers.steps import start

DEPTH = 25.0  # of a draw from the prior: the ratio of its first and last noise level; 1/DEPTH² of the variance is lost

PUBLISHED: dict[str, dict[str, Any]] = {  # for images in [-1, 1]; PnP-DM's code
    "deblurring": {"rho_start": 10.0, "decay": 0.9, "rho_end": 0.3, "n_steps": 100, "burn_in": 40, "thin": 3},
    "phase_retrieval": {"rho_start": 10.0, "decay": 0.9, "rho_end": 0.1, "n_steps": 100, "burn_in": 40, "thin": 3},
    "black_hole": {"rho_start": 10.0, "decay": 0.93, "rho_end": 0.02, "n_steps": 200, "burn_in": 100, "thin": 5},
}


class PnPDMState(NamedTuple):
    x: torch.Tensor  # a draw of the prior's step
    rho: torch.Tensor  # (n_steps, B) couplings


@dataclass(frozen=True, kw_only=True)
class PnPDM(Solver):
    """Draws z from exp(−nll(z) − ‖z − x‖²/2ρ²) and x from p(x)·exp(−‖x − z‖²/2ρ²) in turn, ρ falling.

    Wu et al. 2024 (arXiv 2405.18782), algorithm 1. The second draw is the reverse diffusion of the prior from z at
    noise level ρ; the first is exact for linear operators with Gaussian noise, Langevin steps elsewhere. As ρ → 0 the
    draws become those of the posterior, with an error of order ρ² in the covariance. Modes keep the weights that they
    have at the coupling at which chains stop moving between them, where the data count for less.

    burn_in : steps before draws are kept; every ``thin``-th after it is (``result.samples``).
    rho_start, rho_end : couplings, in units of x. None: twice the value range of the images (published: five times),
        and a quarter of the noise level per pixel of x (0.01 of the range where that is not known), which inflates the
        variance of what the data determine by 6%. A chain that cools too fast for the slowest direction stays behind:
        give it more steps.
    decay : ρ_k = max(rho_start·decay^k, rho_end), as published (0.9). None: equal ratios that end at burn_in.
    prior_steps : network calls of one draw from the prior; with few of them draws vary too little.
    inner_steps : Langevin steps where the data term has no exact draw.
    """

    n_steps: PositiveInt = 100
    tol: NonNegativeFloat | None = None
    burn_in: NonNegativeInt = 70
    thin: PositiveInt = 3
    rho_start: PositiveFloat | None = None
    rho_end: PositiveFloat | None = None
    decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    prior_steps: PositiveInt = 10
    inner_steps: PositiveInt = 50

    needs = {"prior": ("denoise",)}
    samples = True
    exact = True
    scheduled = True

    def init(self, problem: Problem, prior: Any, rng: torch.Generator, x0: torch.Tensor | None = None) -> PnPDMState:
        x = start(problem, x0, rng)
        rho = couplings(problem, prior, x, self.n_steps, self.burn_in, self.rho_start, self.rho_end, self.decay)
        if x0 is None:  # forget the image from the data, which is no draw
            x = x + expand(rho[0], x) * randn_like(x, rng)
        return PnPDMState(x, rho)

    def step(self, problem: Problem, prior: Any, state: PnPDMState, k: int, rng: torch.Generator):
        rho = state.rho[k]
        z = conditional(problem, state.x, rho**2, self.inner_steps, rng)
        level = fitted(prior, rho)
        x = reverse_diffusion(prior, z, level, fitted(prior, level / DEPTH), self.prior_steps, rng)
        return state._replace(x=x), {"rho": rho}

    def keeps(self, k: int) -> bool:
        last = self.n_steps - 1
        return k == last or (k >= self.burn_in and (last - k) % self.thin == 0)

    def scaled(self, c: float) -> Self:
        """The couplings are in units of x."""
        sizes = {n: v * c for n in ("rho_start", "rho_end") if (v := getattr(self, n)) is not None}
        return replace(self, **sizes)

    @classmethod
    def published(cls, name: str, half_range: float = 0.5) -> Self:
        """The authors' schedule for "deblurring" (and super-resolution), "phase_retrieval" or "black_hole".

        half_range : half the range of the images' values: the couplings are published for images in [-1, 1].
        """
        return cls(**in_units(PUBLISHED, name, half_range))

    @classmethod
    def example(cls) -> Self:
        """Long enough for a badly conditioned problem."""
        return cls(n_steps=200, burn_in=150)


def in_units(presets: dict[str, dict[str, Any]], name: str, half_range: float) -> dict[str, Any]:
    """A preset's settings with its couplings of the image times ``half_range``."""
    if name not in presets:
        raise SpecError(f"There is no published schedule {name!r}.{suggest(name, presets)}")
    settings = presets[name]
    return settings | {n: settings[n] * half_range for n in ("rho_start", "rho_end")}
