"""The learned parts of Diff-Unfolding: one denoising network for all stages, and what steers them."""

import math
from typing import Any

import torch
from torch import nn

from pnpkit.errors import SpecError
from pnpkit.linalg import expand
from pnpkit.priors.networks.edm import Body, Preconditioned
from pnpkit.priors.networks.shapes import halves, on_real_images
from pnpkit.priors.networks.unet import UNet, noise_coordinate
from pnpkit.priors.unfolding.data_steps import AnyProblem, require_quadratic
from pnpkit.priors.unfolding.stages import DataStep, Stage, ends, unfold

HIDDEN = 32


class UnfoldingNetwork(nn.Module):
    """K stages of ``stages.unfold`` around U-Nets that see the image, a noise level and the stage, never the operator.

    With new weights the blocks are the denoiser that they start from, called at levels equally spaced in their
    logarithm (``stages.ends``), and the scheme is plain ADMM: training moves from there.

    unet : options of ``UNet``. mean, std : of the images, as in ``Preconditioned``.
    stages : K. shared : one U-Net for all stages, told apart by an embedding, or one for each.
    dual : keep the dual variable (ADMM) or not (half-quadratic splitting). anchor, data_step : as in ``unfold``.
    sees_change : the U-Net also sees what the data step changed; ``unet`` then has as many conditions as channels.
    complex : images are complex; the network takes real and imaginary part as channels.
    """

    def __init__(
        self,
        unet: dict[str, Any],
        mean: float,
        std: float,
        stages: int = 3,
        shared: bool = True,
        dual: bool = True,
        anchor: bool = True,
        data_step: DataStep = "prox",
        complex: bool = False,
        sees_change: bool = False,
    ):
        super().__init__()
        if stages < 1:
            raise SpecError(f"An unrolled network has at least one stage, given {stages}.")
        self.config = {
            "unet": unet, "mean": mean, "std": std, "stages": stages, "shared": shared, "dual": dual,
            "anchor": anchor, "data_step": data_step, "complex": complex, "sees_change": sees_change,
        }  # fmt: skip
        self.stages, self.std, self.complex, self.sees_change = stages, std, complex, sees_change
        self.dual, self.anchor, self.mean = dual, anchor, mean
        self.data_step: DataStep = data_step
        self.blocks: Any = nn.ModuleList(
            Preconditioned(UNet(**unet), mean, std) for _ in range(1 if shared else stages)
        )
        width = self.blocks[0].network.embed[0].out_features
        self.stage = nn.Embedding(stages, width)
        self.time = nn.Linear(2, width)
        self.steer = nn.Sequential(nn.Linear(2, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, 4 * stages))
        for zero in (self.stage.weight, self.time.weight, self.time.bias, *self.steer[2].parameters()):
            nn.init.zeros_(zero)

    @property
    def multiple(self) -> int:
        """Heights and widths that the U-Nets take are multiples of this."""
        return self.blocks[0].network.multiple

    def forward(
        self, x: torch.Tensor, sigma: torch.Tensor, problem: AnyProblem, bodies: list[Body] | None = None
    ) -> list[torch.Tensor]:
        """Estimates of E[x0 | x_t = x, y] after each stage; ``bodies`` run in the U-Nets' places.

        x (B, C, H, W), real or complex; the U-Nets see it extended by reflection to multiples of ``multiple``.
        """
        require_quadratic(problem)
        seen = noise_features(sigma, problem.noise_level, self.std)
        time = self.time(seen)
        run = [block.network for block in self.blocks] if bodies is None else bodies

        def block(z: torch.Tensor, change: torch.Tensor, level: torch.Tensor, k: int) -> torch.Tensor:
            own = k % len(self.blocks)
            one = self.blocks[own]
            e = one.network.embedding(noise_coordinate(level, self.std)) + self.stage.weight[k] + time

            def denoised(both: torch.Tensor) -> torch.Tensor:
                image, moved = halves(both, self.complex) if self.sees_change else (both, None)
                scale = expand((level**2 + self.std**2).rsqrt(), both)
                return one.applied(image, level, e, run[own], None if moved is None else scale * moved)

            return on_real_images(denoised, torch.cat([z, change], 1) if self.sees_change else z, self.multiple)

        first = torch.full((1,), self.mean, dtype=x.dtype, device=x.device).reshape([1] * x.ndim)
        stages = self.controls(seen, sigma, problem.noise_level)
        return unfold(problem, x, sigma, stages, block, first, self.data_step, self.anchor)

    def controls(self, seen: torch.Tensor, sigma: torch.Tensor, noise: torch.Tensor) -> list[Stage]:
        """What steers each stage: the starting values times what was learned."""
        first, last = ends(sigma, noise, self.std)
        bend, lam, keep, step = self.steer(seen).unflatten(1, (4, self.stages)).unbind(1)
        way = (torch.arange(self.stages, device=sigma.device) + 0.5) / self.stages
        level = expand(first, bend) * expand(last / first, bend) ** way * bend.exp()
        keeps = 2 * keep.sigmoid() if self.dual else torch.zeros_like(keep)
        columns = (level, lam.exp(), keeps, 2 * step.sigmoid())
        return [Stage(*(c[:, k] for c in columns)) for k in range(self.stages)]


def noise_features(sigma: torch.Tensor, noise: torch.Tensor, std: float) -> torch.Tensor:
    """(B, 2): half the logarithms of ``stages.ends`` in units of the images' spread ``std``; about 1 in size."""
    first, last = ends(sigma, noise, std)
    return torch.stack([first.log(), last.log()], 1).sub(math.log(std)) / 2
