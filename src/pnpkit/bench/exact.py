"""Exact answers as methods of a suite (``call``), where the posterior is known."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from pnpkit import registry
from pnpkit.priors.gaussian_mixture import GaussianMixture
from pnpkit.problem import Problem

Config = dict[str, Any]


def posterior_mean(operator: Config, noise: Config, prior: Config) -> Callable[[np.ndarray], np.ndarray]:
    """E[x | y] under a Gaussian mixture, a linear operator and Gaussian noise: no method has a smaller mean error."""
    op, likelihood = registry.build("operators", operator), registry.build("likelihoods", noise)
    mixture = registry.build("priors", prior)
    assert isinstance(mixture, GaussianMixture)

    def reconstruct(y: np.ndarray) -> np.ndarray:
        mean, _ = mixture.posterior(Problem(op, likelihood, torch.from_numpy(y)[None])).moments()
        return mean.reshape(op.in_shape).numpy()

    return reconstruct
