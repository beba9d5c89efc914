"""Training of posterior denoisers: E‖m(x_t, y) − x‖² over images, operators, measurement noise and noise levels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from pnpkit.likelihoods import Gaussian, randn_like
from pnpkit.linalg import expand
from pnpkit.metrics.image import psnr
from pnpkit.priors.concatenated import Concatenated, ConcatenationNetwork
from pnpkit.priors.networks.edm import Body
from pnpkit.priors.unfolding.network import UnfoldingNetwork, noise_features
from pnpkit.priors.unfolding.trained import DiffUnfolding
from pnpkit.problem import Problem, ProblemGroup
from pnpkit.training.data import Pool
from pnpkit.training.denoising import draw_sigma, reach, started
from pnpkit.training.families import Drawn, Family, chosen, log_between, uniform
from pnpkit.training.objectives import Objective
from pnpkit.training.recipe import PosteriorOptions, Recipe
from pnpkit.types import Shape

Network = UnfoldingNetwork | ConcatenationNetwork
EXPECTED = "expected."  # tensors that training alone needs
CHECKED = 0.02  # measurement noise of the validation


@dataclass(frozen=True)
class Batch:
    """Clean images (B, C, H, W), x_t and its noise level (B,), the measurements, and each sample's family (B,)."""

    x: torch.Tensor
    noisy: torch.Tensor
    sigma: torch.Tensor
    problem: ProblemGroup
    family: torch.Tensor


class Posterior(Objective):
    """Squared error of the last stage, each sample relative to what is expected of its noise levels and family.

    Dividing by an expected loss that is learned on the way (Karras et al. 2024, eq. 16) makes every task count by its
    relative error, which is its PSNR, and keeps the minimiser, the posterior mean. Diff-Unfolding's own weighting is
    not published: a reconstruction, as is the drawing of noise levels.
    """

    def __init__(self, recipe: Recipe):
        super().__init__(recipe)
        assert recipe.posterior is not None
        self.options: PosteriorOptions = recipe.posterior
        self.families: tuple[Family, ...] = self.options.families
        unrolled = self.options.network == "unfolding"
        self.prior = "diff_unfolding" if unrolled else "concatenated"
        self.form = (DiffUnfolding if unrolled else Concatenated).form

    def build(self) -> Network:
        image, options = self.recipe.image, self.options
        conditions = image.channels if options.network == "concatenation" or options.sees_change else 0
        unet = started(self.recipe, {"conditions": conditions})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed + 1)
            model: Network
            if options.network == "concatenation":
                model = ConcatenationNetwork(unet.config, image.mean, image.std, image.complex)
            else:
                told = options.model_dump(include={"stages", "shared", "dual", "anchor", "data_step", "sees_change"})
                model = UnfoldingNetwork(unet.config, image.mean, image.std, complex=image.complex, **told)
            last = nn.Linear(32, 1)
            model.expected = nn.Sequential(nn.Linear(2 + len(self.families), 32), nn.SiLU(), last)
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, -3.0)
        for block in model.blocks:
            block.network.load_state_dict(unet.state_dict())
        return model

    def networks(self, model: nn.Module) -> list[nn.Module]:
        return [block.network for block in model.blocks]  # type: ignore[union-attr]

    def bodies(self, model: nn.Module, device: torch.device) -> list[Body]:
        bodies = super().bodies(model, device)
        return [recomputed(b) for b in bodies] if self.options.recompute else bodies

    def draw(self, pool: Pool, first: int, n: int) -> Batch:
        samples = [self._sample(pool, i) for i in range(first, first + n)]
        samples.sort(key=lambda s: s.group)  # samples of one operator side by side
        x = torch.stack([s.x for s in samples])
        problems = []
        for group in dict.fromkeys(s.group for s in samples):
            members = [s for s in samples if s.group == group]
            problems.append(measured(self.families[group[0]], members, tuple(x.shape[1:])))
        sigma = torch.tensor([s.sigma for s in samples])
        noisy = x + expand(sigma, x) * torch.stack([randn_like(s.x, s.rng) for s in samples])
        family = torch.tensor([s.group[0] for s in samples])
        return Batch(x, noisy, sigma, ProblemGroup(problems), family)

    def moved(self, batch: Batch, device: torch.device) -> Batch:
        x, noisy, sigma, family = (t.to(device) for t in (batch.x, batch.noisy, batch.sigma, batch.family))
        return Batch(x, noisy, sigma, ProblemGroup([on(p, device) for p in batch.problem.problems]), family)

    def _sample(self, pool: Pool, i: int) -> "Sample":
        x, rng = pool.sample(self.recipe.seed, i)
        x = complex_image(x) if self.recipe.image.complex else x
        which, level, alone = uniform(3, rng)
        family = chosen(self.families, which)
        noise = self.recipe.noise
        sigma = reach(noise)[1] if alone < self.options.alone else draw_sigma(noise, rng)
        drawn = self.families[family].draw(tuple(x.shape), rng)
        group = (family, *(drawn[name] for name in self.families[family].grouped_by))
        return Sample(x, sigma, log_between(self.options.sigma, level), drawn, group, rng)

    def loss(self, model: Network, bodies: list[Body], batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        estimates = model(batch.noisy, batch.sigma, batch.problem, bodies)
        errors = [(m - batch.x).abs().square().flatten(1).mean(1) / model.std**2 for m in estimates]
        *before, last = errors
        log_expected = self._log_expected(model, batch)
        error = last + self.options.stage_loss * torch.stack(before).mean(0) if before else last
        return (error * torch.exp(-log_expected) + log_expected).mean(), last.detach()

    def _log_expected(self, model: Network, batch: Batch) -> torch.Tensor:
        seen = noise_features(batch.sigma, batch.problem.noise_level, model.std)
        which = nn.functional.one_hot(batch.family, len(self.families)).to(seen.dtype)
        return model.expected(torch.cat([seen, which], 1))[:, 0]  # type: ignore[operator]

    @torch.no_grad()
    def scores(self, model: Network, images: torch.Tensor) -> dict[str, float]:
        """Mean PSNR (range 1, magnitudes) of the posterior mean given y alone, by family, one operator an image."""
        x = complex_image(images) if self.recipe.image.complex else images
        shape, top = tuple(x.shape[1:]), reach(self.recipe.noise)[1]
        values = {}
        for j, family in enumerate(self.families):
            found = []
            for i in range(len(x)):
                rng = torch.Generator().manual_seed(1000 * j + i)
                member = Sample(x[i].cpu(), top, CHECKED, family.draw(shape, rng), (j,), rng)
                problem = on(measured(family, [member], shape), x.device)
                noisy = x[i : i + 1] + top * randn_like(x[i : i + 1].cpu(), rng).to(x.device)
                clean = model(noisy, torch.full((1,), top, device=x.device), problem)[-1]
                found.append(float(psnr(magnitude(clean), magnitude(x[i : i + 1]), 1.0)))
            values[family.kind] = sum(found) / len(found)  # type: ignore[attr-defined]
        return values

    def saved(self, model: Network) -> tuple[str, dict[str, Any], dict[str, torch.Tensor]]:
        tensors = {k: v for k, v in model.state_dict().items() if not k.startswith(EXPECTED)}
        return self.form, model.config | {"sigma_range": reach(self.recipe.noise)}, tensors


@dataclass(frozen=True)
class Sample:
    """One clean image, the noise level of its x_t, that of its measurement, its operator, and what goes on drawing."""

    x: torch.Tensor
    sigma: float
    noise: float
    drawn: Drawn
    group: tuple[Any, ...]
    rng: torch.Generator


def measured(family: Family, members: Sequence[Sample], shape: Shape) -> Problem:
    """Measurements of several samples by one operator with a parameter each; noise from the samples' generators."""
    operator = family.operator([m.drawn for m in members], shape)
    sigma = torch.tensor([m.noise for m in members])
    y = operator(torch.stack([m.x for m in members]))
    y = y + expand(sigma, y) * torch.stack([randn_like(a, m.rng) for a, m in zip(y, members, strict=True)])
    return Problem(operator, Gaussian(sigma=sigma), y)


def on(problem: Problem, device: torch.device) -> Problem:
    """The problem on the device; its operator and likelihood are moved, not copied."""
    return Problem(problem.operator.to(device), problem.likelihood.to(device), problem.y.to(device))


def complex_image(x: torch.Tensor) -> torch.Tensor:
    """(…, 2, H, W) real to (…, 1, H, W) complex."""
    real, imaginary = x.chunk(2, -3)
    return torch.complex(real, imaginary)


def magnitude(x: torch.Tensor) -> torch.Tensor:
    return x.abs() if x.is_complex() else x


def recomputed(body: Body) -> Body:
    """The body, run again for its gradient instead of keeping what it computed (Chen et al. 2016, arXiv 1604.06174)."""

    def run(z: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        out = checkpoint(body, z, embedding, use_reentrant=False)
        assert isinstance(out, torch.Tensor)
        return out

    return run
