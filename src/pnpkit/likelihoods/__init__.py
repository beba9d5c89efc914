"""Noise models: p(y | z) with z = A(x). Noise is never part of the operator.

``sigma`` is the standard deviation of each real component: complex noise of sigma has
E|n|² = 2 sigma². Values are per sample, (B,); gradients are with respect to z.
"""

from pnpkit.likelihoods.base import Likelihood
from pnpkit.likelihoods.gaussian import Gaussian, randn_like
from pnpkit.likelihoods.poisson import Poisson
from pnpkit.likelihoods.split import SplitLikelihood
from pnpkit.likelihoods.transmission import Transmission

__all__ = ["Gaussian", "Likelihood", "Poisson", "SplitLikelihood", "Transmission", "randn_like"]
