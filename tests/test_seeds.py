"""What a seed stands for in solvers: not the numbers with which data were simulated from the same one."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from pnpkit.sampling import sample
from pnpkit.seeds import stream
from pnpkit.solvers.base import solve
from pnpkit.testing.problems import IsotropicGaussian, mixing_problem
from pnpkit.training.sources import GaussianField

from .toys_solvers import DirectSampler, Iterate


def simulated(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True, kw_only=True)
class Noise(DirectSampler):
    needs = {}

    def step(self, problem, prior, state, k, rng):
        return Iterate(torch.randn(state.x.shape, generator=rng)), {}


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
def test_a_stream_is_its_own_and_repeats(seed):
    own = torch.randn(1000, generator=stream(seed))
    assert torch.equal(own, torch.randn(1000, generator=stream(seed)))
    assert abs(float(torch.corrcoef(torch.stack([own, simulated(1000, seed=seed)]))[0, 1])) < 0.15


def test_solvers_and_samplers_draw_from_it():
    problem = mixing_problem(n=1)
    x = solve(problem, None, Noise(n_steps=1), seed=0).x
    assert torch.equal(x, torch.randn(x.shape, generator=stream(0)))
    drawn = sample(IsotropicGaussian(), (1, 4, 4), method="ddim", n_steps=2, sigma_max=1e3, seed=0).x
    noise = (simulated(16), torch.randn(16, generator=stream(0)))
    likeness = [float(np.corrcoef(drawn.flatten(), n)[0, 1]) for n in noise]
    assert likeness[1] > 0.99 and abs(likeness[0]) < 0.7


def test_images_made_from_a_seed_are_not_the_noise_made_from_it():
    """The first image of the suite ``posterior`` was, and samplers came out better on it than on the others."""
    field = GaussianField(count=1, size=24, length=0.1)  # nearly white: the image is its own latent
    image = torch.from_numpy(field._draws()[0]).flatten()
    assert abs(float(torch.corrcoef(torch.stack([image, simulated(576)]))[0, 1])) < 0.2
