"""BlindDPS: two guided diffusions, one of the image and one of the operator's parameter."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from pydantic import PositiveFloat, PositiveInt

from pnpkit.likelihoods import randn_like
from pnpkit.linalg import expand
from pnpkit.problem import Problem
from pnpkit.solvers.blind import finest, joint_energy, parameter_name, present
from pnpkit.solvers.diffusion import DiffusionState, EstimateSteps, prior_precision, pulled, share, spread, way_down
from pnpkit.solvers.schedules import diffusion_levels, width
from pnpkit.solvers.steps import data_gradient, data_pull, denoised_with_vjp


class BlindDPSState(NamedTuple):
    x: torch.Tensor  # estimate of the image; after the last step the sample
    theta: torch.Tensor  # and of the parameter
    image: DiffusionState
    parameter: DiffusionState


@dataclass(frozen=True, kw_only=True)
class BlindDPS(EstimateSteps):
    """Both unknowns are denoised in step, each pulled by the data gradient at both estimates.

    Chung et al. 2023 (arXiv 2211.10656), algorithm 1: a diffusion prior on the parameter beside that on the image, the
    gradient of the data term taken through both denoisers. As in ``dps`` the steps are in posterior units (a
    reconstruction): ∇nll is divided by 1 + c + c_θ, what the uncertainty of both adds to the noise's variance.

    ``Result.x`` and ``Result.theta`` are of the chain with the least energy.

    parameter : name of the theta; None where the operator has only one.
    weight : of the guidance; 1 is the posterior's.
    """

    n_steps: PositiveInt = 200
    parameter: str | None = None
    weight: PositiveFloat = 1.0

    needs = {"prior": ("denoise",), "prior.theta": ("denoise",)}

    def init(self, problem, prior, rng, x0=None):
        image = super().init(problem, prior, rng, x0)
        theta = present(problem, parameter_name(self.parameter, problem))
        levels = diffusion_levels(prior["theta"], theta, self.n_steps, None, None)
        noisy = expand(levels[0], theta) * randn_like(theta, rng)
        scale = width(prior["theta"], theta)
        parameter = DiffusionState(theta, noisy, levels, scale, prior_precision(scale))
        return BlindDPSState(image.x, theta, image, parameter)

    def step(self, problem, prior, state, k, rng):
        name = parameter_name(self.parameter, problem)
        sides = (state.image, state.parameter)
        x, back_x = denoised_with_vjp(prior["x"], state.image.noisy, state.image.levels[k])
        theta, back_theta = denoised_with_vjp(prior["theta"], state.parameter.noisy, state.parameter.levels[k])
        in_x = problem.at(**{name: theta})
        in_theta = Problem(problem.operator.in_theta(name, x), problem.likelihood, problem.y)
        to_x, misfit = data_pull(in_x, x)
        pairs = [(g, back(g)) for g, back in ((to_x, back_x), (data_gradient(in_theta, theta), back_theta))]
        leak = sum(spread(*pair, side.levels[k], misfit) for pair, side in zip(pairs, sides, strict=True))
        new = []
        for side, part, clean, (gradient, slope) in zip(
            sides, (prior["x"], prior["theta"]), (x, theta), pairs, strict=True
        ):
            size = self.weight * side.levels[k] ** 2 / (1 + leak)
            estimate = pulled(clean, -slope, size, way_down(gradient, misfit))
            new.append(self.advanced(part, side, estimate, clean, k, rng, share(gradient, slope)))
        return BlindDPSState(new[0].x, new[1].x, *new), {"sigma": state.image.levels[k]}

    def energy(self, problem, prior, state, rng):
        """As of ``BlindPnPDM`` with its default couplings."""
        scales = finest(problem, prior, state.x, state.theta)
        return joint_energy(problem, prior, parameter_name(self.parameter, problem), state.x, state.theta, scales, rng)
