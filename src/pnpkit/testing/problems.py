"""Small problems with known answers, and reference priors to solve them with."""

import torch

from pnpkit.likelihoods import Gaussian, Poisson
from pnpkit.linalg import expand
from pnpkit.operators.base import LinearOperator
from pnpkit.operators.blur import Blur
from pnpkit.operators.diagonal import Identity
from pnpkit.priors.base import Denoiser, Domain, PosteriorDenoiser, Proximable
from pnpkit.problem import Problem
from pnpkit.testing.measure import generator, randn
from pnpkit.types import Scalar, Shape


class Mixing(LinearOperator):
    """y = M x with a fixed, moderately conditioned matrix without structure; exact prox by its singular values.

    Parameters
    ----------
    shape : image shape without batch.
    positive : entries ≥ 0, for counts.
    complex : complex images, measurements and entries.
    """

    row_axis = -1
    m: torch.Tensor

    def __init__(self, shape: Shape, positive: bool = False, complex: bool = False):
        n = torch.Size(shape).numel()
        super().__init__(shape, (n + n // 2,), complex_in=complex)
        self.shape, self.positive, self.complex = shape, positive, complex
        m = randn((n + n // 2, n), torch.complex64 if complex else torch.float32, 101) / n**0.5
        self.register_buffer("m", m.abs() if positive else m, persistent=False)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.flatten(1).unsqueeze(1) @ self.m.T).squeeze(1)

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return (y.unsqueeze(1) @ self.m.conj()).reshape(-1, *self.in_shape)

    def _svd(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Squared singular values (n,) and right singular vectors (n, n)."""
        values, vectors = torch.linalg.eigh(self.m.mH @ self.m)
        return values.clamp_min(0), vectors

    def _prox_l2(self, z: torch.Tensor, y: torch.Tensor, tau: Scalar) -> torch.Tensor:
        squares, v = self.derived("svd", self._svd)
        b = (z + expand(tau, z) * self._adjoint(y)).flatten(1)
        return ((b @ v.conj()) / (1 + expand(tau, b) * squares) @ v.T).reshape(z.shape)

    @classmethod
    def example(cls) -> "Mixing":
        return cls(shape=(1, 3, 4))


class IsotropicGaussian(Denoiser):
    """Exact denoiser of independent pixels N(mean, std²)."""

    def __init__(self, mean: float = 0.5, std: float = 0.4):
        super().__init__()
        self.mean, self.std = mean, std
        scale = max(std, 1e-30)
        self.domain = Domain(sigma_range=(1e-4 * scale, 1e4 * scale), value_range=(mean - 2 * std, mean + 2 * std))

    def _denoise(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        s2 = expand(sigma**2, x)
        return (self.std**2 * x + s2 * self.mean) / (self.std**2 + s2)

    def gaussian_model(self) -> tuple[torch.Tensor, torch.Tensor]:
        n = torch.Size(self.example_shape).numel()
        return torch.full(self.example_shape, self.mean), self.std**2 * torch.eye(n)

    @classmethod
    def example(cls) -> "IsotropicGaussian":
        return cls()


class IsotropicPosterior(PosteriorDenoiser):
    """E[x0 | x_t, y] for pixels N(mean, std²) and a linear Gaussian problem.

    The prior and x_t together are one Gaussian on x0, with variance tau; the data term's prox does the rest.
    """

    def __init__(self, mean: float = 0.5, std: float = 0.4):
        super().__init__()
        self.mean, self.std = mean, std
        self.domain = IsotropicGaussian(mean=mean, std=std).domain

    def _posterior_denoise(self, x: torch.Tensor, sigma: torch.Tensor, problem: Problem) -> torch.Tensor:
        tau = 1 / (self.std**-2 + sigma**-2)
        centre = expand(tau, x) * (self.mean / self.std**2 + x / expand(sigma**2, x))
        return problem.prox(centre, tau)

    def gaussian_model(self) -> tuple[torch.Tensor, torch.Tensor]:
        return IsotropicGaussian(mean=self.mean, std=self.std).gaussian_model()

    @classmethod
    def example(cls) -> "IsotropicPosterior":
        return cls()


class Quadratic(Proximable):
    """h(x) = weight/2·‖x − mean‖²."""

    def __init__(self, weight: float = 2.0, mean: float = 0.5):
        super().__init__()
        self.weight, self.mean = weight, mean

    def _prox(self, z: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        t = self.weight * expand(tau, z)
        return (z + t * self.mean) / (1 + t)

    def _value(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight / 2 * (x - self.mean).abs().square().flatten(1).sum(1)

    @classmethod
    def example(cls) -> "Quadratic":
        return cls()


class Sparse(Proximable):
    """h(x) = weight·‖x‖₁."""

    def __init__(self, weight: float = 5.0):
        super().__init__()
        self.weight = weight

    def _prox(self, z: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        size = z.abs()
        kept = (size - self.weight * expand(tau, z)).clamp_min(0)
        return z * (kept / torch.where(size > 0, size, torch.ones_like(size)))

    def _value(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x.abs().flatten(1).sum(1)

    @classmethod
    def example(cls) -> "Sparse":
        return cls()


def denoising_problem(shape: Shape, dtype: torch.dtype, n: int = 3, sigma: float = 0.2) -> Problem:
    """y = x + noise for n random images."""
    operator = Identity(shape=shape, complex=dtype.is_complex).to(dtype.to_real())
    y = 0.5 + 0.4 * randn((n, *shape), dtype, 102)
    return Problem(operator, Gaussian(sigma=sigma).to(dtype.to_real()), y)


def mixing_problem(
    shape: Shape = (1, 4, 4),
    n: int = 3,
    dtype: torch.dtype = torch.float32,
    noise: str = "gaussian",
    sigma: float = 0.05,
) -> Problem:
    """n images of mean 0.5 and std 0.4 (positive for counts), mixed, with noise.

    The operator's prox is exact, so whatever error is left over is the solver's.
    """
    real = dtype.to_real()
    operator = Mixing(shape=shape, positive=noise == "poisson", complex=dtype.is_complex).to(real)
    x = 0.5 + 0.4 * randn((n, *shape), dtype, 103)
    x = x.abs() + 0.05 if noise == "poisson" else x
    if noise == "poisson":  # drawn in float64, so that every precision gets the same counts
        counts = Poisson(gain=200.0, background=1.0).to(real)
        return Problem(operator, counts, torch.poisson(counts.rate(operator(x)).double(), generator(104)).to(real))
    y = operator(x) + sigma * randn((n, *operator.out_shape), dtype, 104)
    return Problem(operator, Gaussian(sigma=sigma).to(real), y)


def blurred_problem(n: int = 3, dtype: torch.dtype = torch.float32, sigma: float = 0.05) -> Problem:
    """n images 4×4, each blurred by a kernel 3×3 of its own near 1/9; the operator holds another one."""
    shape, kernels = (1, 4, 4), 1 / 9 + 0.05 * randn((n, 1, 3, 3), dtype, 105)
    x = 0.5 + 0.4 * randn((n, *shape), dtype, 106)
    y = Blur(kernel=kernels, shape=shape)(x) + sigma * randn((n, *shape), dtype, 107)
    held = Blur(kernel=torch.full((1, 3, 3), 1 / 9, dtype=dtype), shape=shape)
    return Problem(held, Gaussian(sigma=sigma).to(dtype), y)
