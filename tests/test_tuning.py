"""Noise level, coil whitening, choice of the regularisation strength."""

import pytest
import torch

from pnpkit import tuning
from pnpkit.errors import CapabilityError, DataError, ShapeError, SpecError
from pnpkit.likelihoods import Gaussian, Poisson, randn_like
from pnpkit.operators import Identity
from pnpkit.priors import L1, Tikhonov
from pnpkit.problem import Problem
from pnpkit.solvers import FISTA


def test_sigma_of_a_smooth_image_and_of_complex_noise(rng):
    ramp = torch.linspace(0, 1, 128).expand(2, 1, 128, 128)
    levels = torch.tensor([0.02, 0.1]).reshape(2, 1, 1, 1)
    found = tuning.estimate_sigma(ramp + levels * torch.randn(ramp.shape, generator=rng))
    assert torch.allclose(found, levels.flatten(), rtol=0.05)
    z = torch.zeros(1, 1, 128, 128, dtype=torch.complex64)
    assert float(tuning.estimate_sigma(0.3 * randn_like(z, rng))) == pytest.approx(0.3, rel=0.05)
    with pytest.raises(ShapeError, match="B, C, H, W"):
        tuning.estimate_sigma(torch.zeros(4))


def testwhitened_noise_is_white_with_sigma_one(rng):
    mix = torch.randn(4, 4, dtype=torch.complex64, generator=rng)
    noise = mix @ randn_like(torch.zeros(4, 20000, dtype=torch.complex64), rng)
    white, w = tuning.whiten_coils(noise.reshape(4, 200, 100), noise)
    covariance = white.reshape(4, -1) @ white.reshape(4, -1).mH / (2 * 20000)
    assert torch.allclose(covariance, torch.eye(4, dtype=torch.complex64), atol=1e-3)
    batch, _ = tuning.whiten_coils(noise.reshape(1, 4, 200, 100), noise)
    assert torch.allclose(batch[0], white) and torch.allclose(w, w.tril())
    dead = noise.clone()
    dead[0] = 0
    with pytest.raises(DataError, match="singular"):
        tuning.whiten_coils(noise, dead)


@pytest.fixture
def problem(rng):
    """Sparse values in noise: soft thresholding is its solution, so every rule can be checked."""
    x = torch.zeros(1, 1, 64, 64)
    x[0, 0, ::7, ::5] = 1.0
    likelihood = Gaussian(0.1)
    return x, Problem(Identity(shape=(1, 64, 64)), likelihood, likelihood.sample(x, rng))


WEIGHTS = [0.5, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0]


def test_sure_equals_the_true_risk_within_its_error(problem):
    x, p = problem
    choice = tuning.choose_weight(p, lambda w: L1(weight=w), FISTA(n_steps=5), WEIGHTS, "sure")
    for w, score in choice.scores.items():
        risk = float(((L1(weight=w).prox(p.y, 0.01) - x) / 0.1).square().sum())
        assert abs(score - risk) < 0.12 * p.y.numel()
    best = min(WEIGHTS, key=lambda w: float((L1(weight=w).prox(p.y, 0.01) - x).norm()))
    assert choice.weight == best


def test_discrepancy_picks_the_weight_whose_residual_is_the_noise(problem):
    _, p = problem
    choice = tuning.choose_weight(p, lambda w: L1(weight=w), FISTA(n_steps=5), WEIGHTS, "discrepancy")
    residual = {w: float(((L1(weight=w).prox(p.y, 0.01) - p.y) / 0.1).square().mean()) for w in WEIGHTS}
    nearest = min(WEIGHTS, key=lambda w: abs(torch.log(torch.tensor(residual[w]))))
    assert choice.weight == nearest


def test_heldout_prefers_the_smooth_answer(rng):
    """A constant image, half of it hidden: only a prior that knows it is smooth predicts what was held out."""
    from pnpkit.operators import Gradient

    p = Problem(Identity(shape=(1, 32, 32)), Gaussian(0.2), 1 + 0.2 * torch.randn(1, 1, 32, 32, generator=rng))
    d = Gradient(shape=(1, 32, 32), boundary="circular")
    choice = tuning.choose_weight(
        p, lambda w: Tikhonov(weight=w, operator=d), FISTA(n_steps=200), [1e-3, 1.0, 300.0], "heldout", fraction=0.3
    )
    assert choice.weight == 300.0


def test_bad_requests(problem):
    _, p = problem
    with pytest.raises(SpecError, match="weights"):
        tuning.choose_weight(p, lambda w: L1(weight=w), FISTA(), [0.0])
    with pytest.raises(SpecError, match="rule"):
        tuning.choose_weight(p, lambda w: L1(weight=w), FISTA(), [1.0], "magic")
    counts = Problem(Identity(shape=(1, 4, 4)), Poisson(), torch.ones(1, 1, 4, 4))
    with pytest.raises(CapabilityError, match="Gaussian"):
        tuning.choose_weight(counts, lambda w: L1(weight=w), FISTA(), [1.0])
