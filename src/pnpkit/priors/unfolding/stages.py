"""The unrolled scheme: ADMM on −log p(y | x0) − log p(x_t | x0) + φ(x0), a denoiser in the place of φ's prox."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch

from pnpkit.linalg import expand
from pnpkit.priors.unfolding.data_steps import AnyProblem, gradient, proximal

DataStep = Literal["prox", "gradient"]


# (image, what the data step changed in it, noise level, stage) -> estimate
Block = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int], torch.Tensor]


class Stage(NamedTuple):
    """What steers one stage, (B,) each.

    level : noise level at which the prior block is called, in units of x.
    lam : weight of the prior in the data step, lam/level²; 1 where ``level`` is the noise that the block removes.
    keep : how much of the dual variable's step is kept: 1 is ADMM, 0 half-quadratic splitting.
    step : of the gradient variant, in (0, 2).
    """

    level: torch.Tensor
    lam: torch.Tensor
    keep: torch.Tensor
    step: torch.Tensor


def unfold(
    problem: AnyProblem,
    x: torch.Tensor,
    sigma: torch.Tensor,
    stages: Sequence[Stage],
    block: Block,
    first: torch.Tensor,
    data_step: DataStep = "prox",
    anchor: bool = True,
) -> list[torch.Tensor]:
    """Estimates of E[x0 | x_t = x, y] after each stage; sigma (B,) is the noise level of x_t.

    Stage k, with scaled dual variable u: v = data step near x0 − u; x0 = block(v + u, level_k); u += keep_k·(v − x0).
    ``block`` also gets what the data changed, v − (x0 − u), which shows where they speak. The first x0 is ``first``,
    and u is 0, so the first v is the ridge estimate around it with weight lam/level². With ``anchor`` off x_t does not
    enter.

    That the posterior's score follows from a composite objective, to be unrolled with the measurement apart from the
    prior, is Diff-Unfolding's (Wang, Shoushtari & Kamilov 2025, arXiv 2505.11393, abstract); this scheme is a
    reconstruction, as theirs is not published. For Gaussian images and their exact denoiser the stages converge to the
    exact posterior mean where level is the same in all.
    """
    pull = sigma**-2 if anchor else torch.zeros_like(sigma)
    x0, u = first.expand_as(x), torch.zeros_like(x)
    estimates = []
    for k, stage in enumerate(stages):
        near = x0 - u
        if data_step == "prox":
            v = proximal(problem, x, near, pull, stage.lam / stage.level**2)
        else:
            v = gradient(problem, x, near, pull, stage.step)
        x0 = block(v + u, v - near, stage.level, k)
        u = u + expand(stage.keep, x) * (v - x0)
        estimates.append(x0)
    return estimates


def ends(sigma: torch.Tensor, noise: torch.Tensor, width: float | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise levels to begin and to end with: what is unknown before the data are looked at, and where they see best.

    1/first² = 1/sigma² + 1/width², the spread of x0 around what x_t and a Gaussian prior of standard deviation
    ``width`` say; 1/last² = 1/first² + 1/noise², with noise the level of the measurement per pixel.
    """
    first = (sigma**-2 + width**-2) ** -0.5
    return first, (first**-2 + noise**-2) ** -0.5
