"""PnP-DM: split Gibbs sampling with a diffusion prior."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch

from pnpkit.likelihoods import randn_like
from pnpkit.linalg import expand
from pnpkit.problem import Problem
from pnpkit.solvers.langevin import conditional
from pnpkit.solvers.schedules import width
from pnpkit.solvers.split_gibbs import SplitGibbs
from pnpkit.solvers.steps import start


class PnPDMState(NamedTuple):
    x: torch.Tensor  # a draw of the prior's step
    rho: torch.Tensor  # (B, n_steps) couplings


@dataclass(frozen=True, kw_only=True)
class PnPDM(SplitGibbs):
    """Draws z from exp(−nll(z) − ‖z − x‖²/2ρ²) and x from p(x)·exp(−‖x − z‖²/2ρ²) in turn, ρ falling.

    Wu et al. 2024 (arXiv 2405.18782), algorithm 1. The second draw is the reverse diffusion of the prior from z at
    noise level ρ; the first is exact for linear operators with Gaussian noise, Langevin steps elsewhere. As ρ → 0 the
    draws become those of the posterior, with an error of order ρ² in the covariance. Modes keep the weights that they
    have at the coupling at which chains stop moving between them, where the data count for less.

    rho_start, rho_end : couplings, in units of x. None: twice the value range of the images (published: five times),
        and a quarter of the noise level per pixel of x (0.01 of the range where that is not known), which inflates the
        variance of what the data determine by 6%. A chain that cools too fast for the slowest direction stays behind:
        give it more steps.
    burn_in, cycle, thin, decay, prior_steps, inner_steps, shared_steps : as in ``SplitGibbs``.

    ``PnPDM.preset(name)`` has the authors' schedules: "deblurring" (and super-resolution), "phase_retrieval",
    "black_hole".
    """

    needs = {"prior": ("denoise",)}
    exact = True
    presets = {
        "deblurring": {"rho_start": 10.0, "decay": 0.9, "rho_end": 0.3, "n_steps": 100, "burn_in": 40, "thin": 3},
        "phase_retrieval": {"rho_start": 10.0, "decay": 0.9, "rho_end": 0.1, "n_steps": 100, "burn_in": 40, "thin": 3},
        "black_hole": {"rho_start": 10.0, "decay": 0.93, "rho_end": 0.02, "n_steps": 200, "burn_in": 100, "thin": 5},
    }

    def init(self, problem: Problem, prior: Any, rng: torch.Generator, x0: torch.Tensor | None = None) -> PnPDMState:
        x = start(problem, x0, rng)
        size = width(prior, x)
        ends = (2 * size, 0.25 * problem.noise_level if problem.quadratic else 0.01 * size)
        rho = self.falling(ends, self.rho_start, self.rho_end, self.decay)
        if x0 is None:  # forget the image from the data, which is no draw
            x = x + expand(rho[:, 0], x) * randn_like(x, rng)
        return PnPDMState(x, rho)

    def step(self, problem: Problem, prior: Any, state: PnPDMState, k: int, rng: torch.Generator):
        rho = state.rho[:, k]
        z = conditional(problem, state.x, rho**2, self.inner_steps, rng)
        return state._replace(x=self.drawn(prior, z, rho, rng)), {"rho": rho}

    @classmethod
    def example(cls) -> Self:
        """Long enough for a badly conditioned problem."""
        return cls(n_steps=200, burn_in=150)
