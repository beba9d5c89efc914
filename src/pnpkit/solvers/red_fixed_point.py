"""RED by its fixed-point iteration."""

from dataclasses import dataclass
from typing import Any

import torch
from pydantic import PositiveInt

from pnpkit.problem import Problem
from pnpkit.solvers.red import REDBase, REDState


@dataclass(frozen=True, kw_only=True)
class REDFixedPoint(REDBase):
    """x+ = argmin nll(x) + w/2·‖x − D(x_k, sigma)‖², the data prox at 1/w (Romano, Elad & Milanfar 2017, §4.2).

    w = lam/sigma² as in ``red``, whose fixed points it shares, in fewer denoiser calls. The prox is a contraction
    only where A sees, so elsewhere D must be one.

    sigma : noise level for the denoiser, units of x; None is that of the noise per pixel of x.
    inject : as in ``red``.
    """

    n_steps: PositiveInt = 50

    def step(self, problem: Problem, prior: Any, state: REDState, k: int, rng: torch.Generator):
        x = problem.prox(self.denoised(prior, state, rng), state.sigma**2 / self.lam)
        return REDState(x, state.sigma), {"sigma": state.sigma}
