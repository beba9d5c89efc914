"""What split Gibbs samplers share: couplings that fall, draws from a diffusion prior, draws that are kept."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from pnpkit.errors import SpecError, suggest
from pnpkit.solvers.base import Solver
from pnpkit.solvers.diffusion import reverse_diffusion
from pnpkit.solvers.schedules import fitted

DEPTH = 25.0  # of a draw from the prior: the ratio of its first and last noise level; 1/DEPTH² of the variance is lost


@dataclass(frozen=True, kw_only=True)
class SplitGibbs(Solver):
    """Base of samplers that draw from the data term and from a prior in turn, coupled by ρ.

    burn_in : steps before draws are kept; every ``thin``-th after it is (``result.samples``).
    cycle : steps after which the couplings rise and fall once more, burn_in of them without draws. None: they fall
        once. A chain moves by its coupling in a step: where it needs many steps, one that rises again gives draws that
        depend less on each other (as cyclical step sizes do, Zhang et al. 2020, arXiv 1902.03932).
    decay : ρ_k = max(rho_start·decay^k, rho_end), as published (0.9). None: equal ratios that end at burn_in.
    prior_steps : network calls of one draw from the prior; with few of them draws vary too little.
    shared_steps : first steps that one chain takes for all chains of a measurement, which then go their own ways; at
        most burn_in.
    inner_steps : Langevin steps where the data term has no exact draw.
    """

    n_steps: PositiveInt = 100
    tol: NonNegativeFloat | None = None
    burn_in: NonNegativeInt = 70
    cycle: PositiveInt | None = None
    thin: PositiveInt = 3
    rho_start: PositiveFloat | None = None
    rho_end: PositiveFloat | None = None
    decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    prior_steps: PositiveInt = 10
    inner_steps: PositiveInt = 50
    shared_steps: NonNegativeInt = 0

    samples = True
    scheduled = True
    in_units_of_x: ClassVar[tuple[str, ...]] = ("rho_start", "rho_end")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # schedules by name, for images in [-1, 1]

    def __post_init__(self) -> None:
        if self.shared_steps > self.burn_in:
            raise SpecError(
                f"{type(self).__name__}: chains that keep draws have parted: shared_steps is at most burn_in, here "
                f"{self.burn_in}; given {self.shared_steps}."
            )
        if self.cycle is not None and self.burn_in >= self.cycle:
            raise SpecError(
                f"{type(self).__name__}: a cycle of {self.cycle} steps without draws in burn_in = {self.burn_in} of "
                "them keeps none; give a longer cycle or a shorter burn_in."
            )

    def shares(self, k: int) -> bool:
        return k < min(self.shared_steps, self.n_steps - 1)

    def drawn(self, prior: Any, z: torch.Tensor, rho: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """A draw from p(x)·exp(−‖x − z‖²/2ρ²), ρ (B,) fitted into the denoiser's range."""
        level = fitted(prior, rho)
        return reverse_diffusion(prior, z, level, fitted(prior, level / DEPTH), self.prior_steps, rng)

    def falling(
        self,
        default: tuple[torch.Tensor, torch.Tensor],  # (B,) each: first and last where the next two are None
        first: float | None,
        last: float | None,
        decay: float | None,
        between: tuple[int, int] | None = None,
    ) -> torch.Tensor:
        """(B, n_steps): couplings from first to last; equal ratios ``between`` two steps of a cycle (None: from its
        first to burn_in), or from the earlier one by ``decay``.
        """
        low = default[1] if last is None else torch.full_like(default[1], last)
        low = torch.where(low > 0, low, torch.ones_like(low))
        high = torch.maximum(default[0] if first is None else torch.full_like(low, first), low)
        low, high = low[:, None], high[:, None]
        between = between or (0, self.burn_in)
        if decay is not None:
            turns = torch.tensor([max(0, self.turn(k) - between[0]) for k in range(self.n_steps)]).to(low)
            return torch.maximum(high * decay**turns, low)
        return high * (low / high) ** torch.tensor([self.annealed(k, between) for k in range(self.n_steps)]).to(low)

    def turn(self, k: int) -> int:
        """Where step ``k`` stands in its cycle."""
        return k % (self.cycle or self.n_steps)

    def annealed(self, k: int, between: tuple[int, int] | None = None) -> float:
        """How much of the fall ``between`` two steps of a cycle (as in ``falling``) lies before step ``k``: 0 to 1."""
        begin, end = between or (0, self.burn_in)
        return min(1.0, max(0, self.turn(k) - begin) / max(1, min(end, self.n_steps - 1) - begin))

    def keeps(self, k: int) -> bool:
        left = min((self.cycle or self.n_steps) - self.turn(k), self.n_steps - k) - 1  # in the cycle
        return k + 1 == self.n_steps or (self.turn(k) >= self.burn_in and left % self.thin == 0)

    def scaled(self, c: float) -> Self:
        sizes = {n: v * c for n in self.in_units_of_x if (v := getattr(self, n)) is not None}
        return replace(self, **sizes)

    @classmethod
    def settings(cls, preset: str, half_range: float = 0.5) -> dict[str, Any]:
        """One of ``presets`` by name, as arguments of the constructor; a config names it: ``{"preset": …}``.

        half_range : half the range of the images' values: what is in their units is kept for images in [-1, 1].
        """
        if preset not in cls.presets:
            raise SpecError(f"{cls.__name__} has no preset {preset!r}.{suggest(preset, cls.presets)}")
        return {n: v * half_range if n in cls.in_units_of_x else v for n, v in cls.presets[preset].items()}

    @classmethod
    def preset(cls, name: str, half_range: float = 0.5) -> Self:
        """A solver with one of ``presets``."""
        return cls(**cls.settings(name, half_range))
