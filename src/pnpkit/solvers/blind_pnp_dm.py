"""Blind-PnPDM: split Gibbs sampling of the image and of the operator's parameter, each with a prior of its own."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from pnpkit.errors import SpecError
from pnpkit.likelihoods import Gaussian, randn_like
from pnpkit.linalg import expand
from pnpkit.priors.base import Priors
from pnpkit.problem import Problem
from pnpkit.solvers.blind import finest, joint_energy, parameter_name, present
from pnpkit.solvers.langevin import conditional
from pnpkit.solvers.schedules import width
from pnpkit.solvers.split_gibbs import SplitGibbs
from pnpkit.solvers.steps import start


class BlindState(NamedTuple):
    x: torch.Tensor  # a draw of the image's prior step
    theta: torch.Tensor  # a draw of the parameter's prior step
    m: torch.Tensor  # and of its likelihood step
    rho: torch.Tensor  # (B, n_steps) couplings of the image
    rho_theta: torch.Tensor  # (B, n_steps) and of the parameter


@dataclass(frozen=True, kw_only=True)
class BlindPnPDM(SplitGibbs):
    """Draws in turn θ given m, z given x and θ, x given z, m given x and θ, their couplings falling.

    Li, Gan & Kamilov 2025 (arXiv 2505.22923); the order of the steps and what they condition on are those of PRISM
    (arXiv 2509.16106, §2), as the paper's own could not be read: a reconstruction. ``order="gibbs"`` conditions z on m
    and m on z, which is exact Gibbs sampling of the joint distribution of x, z, θ and m.

    The parameter is any theta of the operator: its likelihood step is the problem of ``operator.in_theta``, exact where
    the operator is linear in it, Langevin steps elsewhere. Run several chains (``chains=8``): from one start the
    sampler often ends in a wrong mode. ``Result.x`` and ``Result.theta`` are of the chain with the least energy.

    parameter : name of the theta; None where the operator has only one.
    burn_in, cycle, thin, decay, prior_steps, inner_steps, shared_steps : as in ``SplitGibbs``.
    held : first steps of every cycle in which θ stays while ρ falls, so that the image is drawn afresh for it; then ρ
        stays at its end, and θ follows with ρ_θ falling up to burn_in. Such a run begins at the operator's own value
        of the parameter: it refines what another has found, ``problem.at(kernel=found.theta)`` (a reconstruction).
    noise_start : standard deviation of the noise that the data term begins with, in units of y; falls to the noise's
        own in equal ratios up to burn_in (PRISM's code anneals it likewise). None: as it is from the start. With wide
        couplings of the image instead, kernels come out too broad: a coupling says that the image is rough. Gaussian
        noise only.
    rho_start, rho_end : couplings of the image, in its units. None: a quarter of its value range, and the noise level
        per pixel of x (a twentieth of the range where that is not known): a blind chain that starts wide or ends
        narrow is more often in a wrong mode.
    rho_theta_start, rho_theta_end, decay_theta : of the parameter, in its units. None: twice the value range
        of its prior, and 0.9/√n of it for n numbers: as much deviation in all as their largest. Narrower ones freeze
        the chain, wider ones smear it.
    """

    parameter: str | None = None
    order: Literal["plug_in", "gibbs"] = "plug_in"
    held: NonNegativeInt = 0
    noise_start: PositiveFloat | None = None
    rho_theta_start: PositiveFloat | None = None
    rho_theta_end: PositiveFloat | None = None
    decay_theta: Annotated[float, Field(gt=0, lt=1)] | None = None
    prior_steps: PositiveInt = 8

    needs = {"prior": ("denoise",), "prior.theta": ("denoise",)}
    in_units_of_x = ("rho_start", "rho_end", "noise_start")
    presets = {
        # PRISM's code, noise 0.02 and 0.05; its couplings of the kernel belong to a network that is given y
        "prism": {"rho_start": 1.0, "decay": 0.9, "rho_end": 0.1, "n_steps": 200, "burn_in": 100, "thin": 5},
        # benchmarks/blind_deblurring.py: photographs, kernels 32×32 of sum 1 whose prior's values lie in [0, 0.1]
        "deblurring": {
            "n_steps": 60, "burn_in": 50, "prior_steps": 5, "noise_start": 0.5, "rho_start": 0.2,
            "rho_theta_start": 0.5, "rho_theta_end": 0.002,
        },
        # after it: images drawn anew for the kernel, and the kernel for them, ten times
        "refinement": {
            "n_steps": 400, "cycle": 40, "held": 30, "burn_in": 37, "thin": 1, "prior_steps": 5, "rho_start": 1.0,
            "rho_theta_start": 0.02, "rho_theta_end": 0.003,
        },
    }  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.held > self.burn_in:
            raise SpecError(
                f"BlindPnPDM: draws are kept while θ moves: held is at most burn_in, here {self.burn_in}; given "
                f"{self.held}."
            )

    def init(self, problem: Problem, prior: Priors, rng: torch.Generator, x0: torch.Tensor | None = None) -> BlindState:
        x = start(problem, x0, rng)
        size = width(prior, x)
        theta = present(problem, parameter_name(self.parameter, problem))
        ends = finest(problem, prior, x, theta)
        spans = ((0, self.held - 1), (self.held, self.burn_in)) if self.held else (None, None)
        rho = self.falling((0.25 * size, ends[0]), self.rho_start, self.rho_end, self.decay, spans[0])
        span = (2 * width(prior["theta"], theta), ends[1])
        rho_theta = self.falling(span, self.rho_theta_start, self.rho_theta_end, self.decay_theta, spans[1])
        m = theta if self.held else expand(rho_theta[:, 0], theta) * randn_like(theta, rng)
        return BlindState(x, m, m, rho, rho_theta)

    def step(self, problem: Problem, prior: Priors, state: BlindState, k: int, rng: torch.Generator):
        rho, rho_theta, name = state.rho[:, k], state.rho_theta[:, k], parameter_name(self.parameter, problem)
        problem, theta, m = self.tempered(problem, k), state.theta, state.m
        if self.turn(k) >= self.held:
            theta = self.drawn(prior["theta"], m, rho_theta, rng)
        known = problem.at(**{name: theta if self.order == "plug_in" else m})
        z = conditional(known, state.x, rho**2, self.inner_steps, rng)
        x = self.drawn(prior["x"], z, rho, rng)
        if self.turn(k) + 1 >= self.held:
            in_theta = problem.operator.in_theta(name, x if self.order == "plug_in" else z)
            unknown = Problem(in_theta, problem.likelihood, problem.y)
            m = conditional(unknown, theta, rho_theta**2, self.inner_steps, rng)
        return state._replace(x=x, theta=theta, m=m), {"rho": rho, "rho_theta": rho_theta}

    def tempered(self, problem: Problem, k: int) -> Problem:
        """The problem as step ``k`` sees it."""
        if self.noise_start is None:
            return problem
        assert isinstance(problem.likelihood, Gaussian)  # else it was refused
        wider = (self.noise_start / problem.likelihood.sigma).clamp_min(1) ** (1 - self.annealed(k))
        return replace(problem, likelihood=problem.likelihood.scaled(wider))

    def refuses(self, problem: Any) -> list[str]:
        if self.noise_start is None or isinstance(problem.likelihood, Gaussian):
            return []
        return [
            "BlindPnPDM: noise_start is a standard deviation of Gaussian noise, this problem has "
            f"{type(problem.likelihood).__name__}. Leave it out."
        ]

    def energy(self, problem: Problem, prior: Priors, state: BlindState, rng: torch.Generator) -> torch.Tensor:
        """``joint_energy`` down to the last couplings."""
        scales = state.rho[:, -1], state.rho_theta[:, -1]
        name = parameter_name(self.parameter, problem)
        return joint_energy(problem, prior, name, state.x, state.theta, scales, rng)
