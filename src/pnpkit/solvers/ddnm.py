"""DDNM+: the range of the operator from the data, its null space from the denoiser."""

from dataclasses import dataclass

from pydantic import PositiveInt

from pnpkit.likelihoods import randn_like
from pnpkit.linalg import expand
from pnpkit.solvers.ddrm import DDRM


@dataclass(frozen=True, kw_only=True)
class DDNM(DDRM):
    """x0 = D + Λ(A⁺y − A⁺A D) per singular direction, each level repeated.

    Wang et al. 2023 (DDNM+, §3.3 and appendix I). In the singular basis, with as much less fresh noise as Λ lets noise
    of y in, their update is DDRM's with eta_b = 1. What is their own is time travel (their algorithm 2): x is brought
    back to the level it came from with fresh noise, and the step made again, so that the null space comes to fit the
    data; here by one level at a time.

    travel : how often a step is made; 1 is without time travel. A step costs as many network calls.
    """

    n_steps: PositiveInt = 50
    travel: PositiveInt = 2

    def step(self, problem, prior, state, k, rng):
        now, then = state.levels[k], state.levels[k + 1]
        new, info = super().step(problem, prior, state, k, rng)
        for _ in range(self.travel - 1):
            back = new.noisy + expand((now**2 - then**2).sqrt(), new.noisy) * randn_like(new.noisy, rng)
            new, info = super().step(problem, prior, state._replace(noisy=back), k, rng)
        return new, info
