"""Gaussian mixtures: the prior for which everything is known exactly."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import torch

from pnpkit.errors import CapabilityError, DataError, ShapeError, SpecError
from pnpkit.linalg import dense
from pnpkit.priors.base import Denoiser, Domain

if TYPE_CHECKING:
    from pnpkit.problem import Problem


class GaussianMixture(Denoiser):
    """Images p(x) = Σ_k w_k·N(x; m_k, C_k): exact denoiser, score, density, samples and linear-Gaussian posterior.

    With K = 1 the denoiser is the Wiener filter. Real images of at most a few thousand pixels: covariances are dense.

    Parameters
    ----------
    means : (K, *shape).
    covariances : (K, n, n), symmetric and positive semi-definite, n the number of pixels of ``shape``.
    weights : (K,), > 0, normalised to sum 1; None for equal ones.
    """

    means: torch.Tensor
    covariances: torch.Tensor
    weights: torch.Tensor
    eigenvalues: torch.Tensor
    eigenvectors: torch.Tensor

    def __init__(self, means: torch.Tensor, covariances: torch.Tensor, weights: torch.Tensor | None = None):
        super().__init__()
        k, n = means.shape[0], means[0].numel()
        if means.ndim < 2 or covariances.shape != (k, n, n) or means.is_complex():
            raise ShapeError(
                f"GaussianMixture: means are real (K, *shape) and covariances (K, n, n); given {tuple(means.shape)} "
                f"and {tuple(covariances.shape)}, expected ({k}, {n}, {n})."
            )
        weights = torch.ones(k, dtype=means.dtype) if weights is None else weights.to(means.dtype)
        if weights.shape != (k,) or not bool((weights > 0).all()):
            raise SpecError(f"GaussianMixture: weights must be {k} numbers > 0, given {weights.tolist()}.")
        covariances = covariances.to(means.dtype)
        asymmetry = float((covariances - covariances.mT).abs().max() / covariances.abs().max().clamp_min(1e-30))
        if asymmetry > 1e-5:
            raise SpecError(f"GaussianMixture: a covariance is not symmetric (relative difference {asymmetry:.1e}).")
        for name, value in (("means", means), ("covariances", covariances), ("weights", weights / weights.sum())):
            if not bool(torch.isfinite(value).all()):
                raise DataError(f"GaussianMixture: {name} holds NaN or Inf.")
            self.register_buffer(name, value.clone())
        self._decompose()
        if float(self.eigenvalues.min()) < -1e-5 * float(self.eigenvalues.max()):
            raise SpecError(
                f"GaussianMixture: a covariance has the negative eigenvalue {float(self.eigenvalues.min()):.3g}; it "
                "must be positive semi-definite."
            )
        self.domain = Domain(tuple(means.shape[1:]), means.dtype)

    def _decompose(self) -> None:
        values, vectors = torch.linalg.eigh(self.covariances.double())
        for name, value in (("eigenvalues", values), ("eigenvectors", vectors)):
            self.register_buffer(name, value.to(self.means.dtype), persistent=False)

    def _posteriors(self, x: torch.Tensor, sigma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(ln w_k·N(x; m_k, C_k + sigma²), (B, K); E[x0 | x, k], (B, K, n))."""
        away = x.flatten(1)[:, None] - self.means.flatten(1)
        values = self.eigenvalues.clamp_min(0)
        spread = values + sigma[:, None, None] ** 2  # (B, K, n)
        along = torch.einsum("bkn,knm->bkm", away, self.eigenvectors)
        density = -0.5 * (along**2 / spread + torch.log(2 * torch.pi * spread)).sum(-1) + self.weights.log()
        shrunk = torch.einsum("bkm,knm->bkn", along * values / spread, self.eigenvectors)
        return density, self.means.flatten(1) + shrunk

    def _denoise(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        density, estimates = self._posteriors(x, sigma)
        return (density.softmax(1)[..., None] * estimates).sum(1).reshape(x.shape)

    def log_density(self, x: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
        """ln p_sigma(x) of the mixture blurred by N(0, sigma²), (B,); sigma > 0."""
        return self._posteriors(x, self._checked_sigma(x, sigma))[0].logsumexp(1)

    def sample(self, n: int, rng: torch.Generator) -> torch.Tensor:
        """n independent images."""
        k = torch.multinomial(self.weights, n, replacement=True, generator=rng)
        white = torch.randn(
            n, self.eigenvalues.shape[1], generator=rng, dtype=self.means.dtype, device=self.means.device
        )
        away = torch.einsum("bn,bmn->bm", white * self.eigenvalues[k].clamp_min(0).sqrt(), self.eigenvectors[k])
        return self.means[k] + away.reshape(n, *self.means.shape[1:])

    def posterior(self, problem: "Problem") -> "GaussianMixture":
        """p(x | y) of a linear problem with Gaussian noise and one measurement: again a mixture.

        m_k + K_k(y − A m_k) and (I − K_k A)C_k with K_k = C_k Aᵀ(A C_k Aᵀ + R)⁻¹; w_k times the evidence of y.
        """
        likelihood: Any = problem.likelihood
        if likelihood.name != "gaussian" or problem.batch != 1 or problem.y.is_complex():
            raise CapabilityError(
                "GaussianMixture.posterior needs a linear operator with real measurements, Gaussian noise and one "
                f"sample; given {type(likelihood).__name__} noise, {problem.batch} samples, {problem.y.dtype}. Use "
                "problem[i:i+1]."
            )
        wide = torch.float64
        a = dense(problem.operator, problem.in_shape, problem.in_dtype, problem.device).to(wide)
        noise = likelihood.std(problem.y).to(wide).expand(problem.y.shape).flatten() ** 2
        covariances, means = self.covariances.to(wide), self.means.to(wide).flatten(1)
        across = a @ covariances  # (K, m, n)
        data = across @ a.T + noise.diag()
        gain = torch.linalg.solve(data, across).mT  # (K, n, m)
        miss = problem.y.to(wide).flatten() - means @ a.T
        fit = torch.linalg.solve(data, miss[..., None])[..., 0]
        evidence = -0.5 * ((miss * fit).sum(-1) + torch.logdet(data)) + self.weights.to(wide).log()
        after = covariances - gain @ across
        return GaussianMixture(
            means=(means + (gain @ miss[..., None])[..., 0]).reshape(self.means.shape).to(self.means.dtype),
            covariances=(0.5 * (after + after.mT)).to(self.means.dtype),
            weights=evidence.softmax(0).clamp_min(1e-30).to(self.means.dtype),
        )

    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean (*shape) and covariance (n, n) of the whole mixture."""
        flat = self.means.flatten(1)
        mean = self.weights @ flat
        away = flat - mean
        covariance = torch.einsum("k,kij->ij", self.weights, self.covariances)
        return mean.reshape(self.means.shape[1:]), covariance + (self.weights[:, None] * away).mT @ away

    @property
    def example_shape(self) -> tuple[int, ...]:
        return tuple(self.means.shape[1:])

    def gaussian_model(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        return (self.means[0], self.covariances[0]) if len(self.means) == 1 else None

    @classmethod
    def example(cls) -> Self:
        rng = torch.Generator().manual_seed(0)
        root = torch.randn(20, 20, generator=rng) / 20**0.5
        return cls(means=torch.rand(1, 1, 4, 5, generator=rng), covariances=(root @ root.T)[None] / 4)

    def _apply(self, fn, recurse: bool = True):
        super()._apply(fn, recurse)
        self._decompose()  # in the new precision
        self.domain = replace(self.domain, dtype=self.means.dtype)
        return self
