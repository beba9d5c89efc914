"""A posterior denoiser from any denoiser, without training."""

from typing import Self

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from pnpkit.priors.base import Denoiser, PosteriorDenoiser
from pnpkit.priors.gaussian_mixture import GaussianMixture
from pnpkit.priors.unfolding.data_steps import require_quadratic
from pnpkit.priors.unfolding.stages import DataStep, Stage, ends, unfold
from pnpkit.problem import Problem


class Unfolded(PosteriorDenoiser):
    """E[x0 | x_t, y] by ``n_stages`` of unrolled ADMM around a denoiser of white noise (``unfolding.stages``).

    What Diff-Unfolding is before training. For Gaussian images and their exact denoiser it converges to the exact
    posterior mean with the number of stages; for others it is an approximation, as a denoiser of white noise stands
    where one for noise of the data's covariance belongs: a few stages with the dual variable come close, without it
    (keep = 0, half-quadratic splitting) a bias stays.

    Parameters
    ----------
    denoiser : of white noise; the domain is its.
    n_stages : calls of the denoiser.
    level : noise level at which the denoiser is called in all stages, in units of x; None: the geometric mean of
        ``stages.ends`` for the sigma of each call.
    keep : 1 keeps the dual variable, 0 drops it.
    step : of the gradient variant, in (0, 2), of the reciprocal Lipschitz constant.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        n_stages: PositiveInt = 10,
        level: PositiveFloat | None = None,
        keep: NonNegativeFloat = 1.0,
        data_step: DataStep = "prox",
        step: PositiveFloat = 1.0,
    ):
        super().__init__()
        self.denoiser, self.n_stages, self.level = denoiser, n_stages, level
        self.keep, self.step = keep, step
        self.data_step: DataStep = data_step
        self.domain = denoiser.domain

    def _posterior_denoise(self, x: torch.Tensor, sigma: torch.Tensor, problem: Problem) -> torch.Tensor:
        require_quadratic(problem)
        low, high = self.denoiser.domain.sigma_range
        if self.level is None:
            first, last = ends(sigma, problem.noise_level, self._width(x))
            level = (first * last).sqrt().clamp(low, high)
        else:
            level = torch.full_like(sigma, self.level)
        one = torch.ones_like(sigma)
        stages = [Stage(level, one, self.keep * one, self.step * one)] * self.n_stages
        first_image = self._middle(x)
        return unfold(problem, x, sigma, stages, self._block, first_image, self.data_step)[-1]

    def _block(self, z: torch.Tensor, change: torch.Tensor, level: torch.Tensor, k: int) -> torch.Tensor:
        self._count()
        return self.denoiser(z, level)

    def _width(self, x: torch.Tensor) -> torch.Tensor:
        """A quarter of the value range, or of the largest |x|: about the spread of images, (B,)."""
        span = self.domain.value_range
        top = x.abs().flatten(1).amax(1) if span is None else x.real.new_full((x.shape[0],), span[1] - span[0])
        return 0.25 * top

    def _middle(self, x: torch.Tensor) -> torch.Tensor:
        span = self.domain.value_range
        return torch.zeros_like(x) if span is None else torch.full_like(x, sum(span) / 2)

    def gaussian_model(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        return self.denoiser.gaussian_model()

    @property
    def example_shape(self) -> tuple[int, ...]:
        return self.denoiser.example_shape

    @classmethod
    def example(cls) -> Self:
        return cls(denoiser=GaussianMixture.example(), n_stages=200)
