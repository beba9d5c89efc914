"""Small correct components, one of each kind of structure: the contracts' first customers.

``TOYS`` maps a name to a factory; test_contracts runs the suite on all, test_planted_bugs breaks them.
"""

import numpy as np
import torch

from pnpkit.linalg import expand
from pnpkit.operators.algebra import Stack
from pnpkit.operators.base import LinearOperator, Operator
from pnpkit.operators.external import apply_external
from pnpkit.operators.gram import Gram
from pnpkit.priors.base import Denoiser, Domain, PosteriorDenoiser, Proximable


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Filter(LinearOperator):
    """Closed form: circular convolution with a kernel as large as the image, one per channel or per sample."""

    theta = {"kernel": 3}
    linear_in = ("kernel",)

    def __init__(self, kernel: torch.Tensor):
        super().__init__(tuple(kernel.shape[-3:]))
        self.hold(kernel=kernel)

    def _otf(self) -> torch.Tensor:
        return self.derived("otf", lambda: torch.fft.rfft2(self.kernel))

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(x) * self._otf(), s=x.shape[-2:])

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(y) * self._otf().conj(), s=y.shape[-2:])

    def diagonal(self) -> Gram:
        return Gram.of("fourier2", torch.fft.fft2(self.kernel), rank=3)

    @classmethod
    def example(cls) -> "Filter":
        kernel = torch.zeros(2, 5, 4)
        kernel[:, 0, 0] = 1.0
        return cls(kernel=kernel + 0.2 * torch.randn(2, 5, 4, generator=rng(1)))


class Dense(LinearOperator):
    """No closed form: any matrix, by CG and LSQR; the adjoint is autograd's."""

    theta = {"entries": 2}
    linear_in = ("entries",)
    row_axis = -1

    def __init__(self, entries: torch.Tensor, shape: tuple[int, ...]):
        super().__init__(shape, (entries.shape[-2],), entries.is_complex())
        self.hold(entries=entries)
        self.shape = shape

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.entries @ x.flatten(1).unsqueeze(-1)).squeeze(-1)

    @classmethod
    def example(cls) -> "Dense":
        return cls(entries=torch.randn(9, 12, generator=rng(2)), shape=(1, 3, 4))


class Coils(LinearOperator):
    """Complex: y_c = mask · F(maps_c · x), multi-coil MRI in miniature; prox by CG."""

    theta = {"maps": 3, "mask": 3}
    linear_in = ("maps", "mask")

    def __init__(self, maps: torch.Tensor, mask: torch.Tensor):
        super().__init__((1, *maps.shape[-2:]), tuple(maps.shape[-3:]), complex_in=True)
        self.hold(maps=maps, mask=mask)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mask * torch.fft.fft2(self.maps * x, norm="ortho")

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return (self.maps.conj() * torch.fft.ifft2(self.mask * y, norm="ortho")).sum(-3, keepdim=True)

    @classmethod
    def example(cls) -> "Coils":
        maps = torch.randn(3, 4, 5, generator=rng(3), dtype=torch.complex64)
        mask = torch.tensor([1.0, 0, 1, 1])[None, :, None].expand(1, 4, 5)
        return cls(maps=maps, mask=mask)


class HalfSpectrum(LinearOperator):
    """Real to complex: the non-redundant half of the spectrum; the adjoint is the real one, autograd's."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__(shape, (*shape[:-1], shape[-1] // 2 + 1), complex_in=False, complex_out=True)
        self.shape = shape

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.rfft2(x, norm="ortho")

    @classmethod
    def example(cls) -> "HalfSpectrum":
        return cls(shape=(2, 4, 6))


class RunningSum(LinearOperator):
    """A NumPy engine: cumulative sums along the last axis."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__(shape)
        self.shape = shape

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return apply_external(x, _cumsum, _cumsum_back, x.dtype)

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return apply_external(y, _cumsum_back, _cumsum, y.dtype)

    @classmethod
    def example(cls) -> "RunningSum":
        return cls(shape=(2, 3, 4))


def _cumsum(x: np.ndarray) -> np.ndarray:
    return np.cumsum(x, axis=-1)


def _cumsum_back(y: np.ndarray) -> np.ndarray:
    return np.flip(np.cumsum(np.flip(y, -1), axis=-1), -1)


class Saturation(Operator):
    """Non-linear: y = gain · x / √(1 + x²)."""

    theta = {"gain": 3}
    linear_in = ("gain",)

    def __init__(self, gain: torch.Tensor):
        super().__init__(tuple(gain.shape[-3:]))
        self.hold(gain=gain)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gain * x / torch.sqrt(1 + x * x)

    @classmethod
    def example(cls) -> "Saturation":
        return cls(gain=0.5 + torch.rand(2, 3, 4, generator=rng(4)))


def per_sample_filter() -> Filter:
    op = Filter.example()
    return op.at(kernel=torch.stack([op.kernel * f for f in (1.0, 0.5, 2.0)]))


def per_sample_dense() -> Dense:
    return Dense.example().at(entries=torch.randn(3, 9, 12, generator=rng(5)))


def stacked() -> Stack:
    filtered = Filter.example()
    dense = Dense(entries=torch.randn(6, 40, generator=rng(6)), shape=filtered.in_shape)
    return Stack(operators=(filtered, dense))


TOYS = {
    "closed form": Filter.example,
    "cg": Dense.example,
    "complex": Coils.example,
    "real to complex": HalfSpectrum.example,
    "numpy engine": RunningSum.example,
    "non-linear": Saturation.example,
    "stacked": stacked,
    "chain with a closed form": lambda: Filter.example() @ (0.5 * Filter.example()),
    "non-linear chain": lambda: Filter.example() @ Saturation(gain=torch.ones(2, 5, 4)),
    "closed form per sample": per_sample_filter,
    "cg per sample": per_sample_dense,
    "rows of a complex operator": lambda: Coils.example().rows(torch.tensor([0, 2])),
}


# --- priors ---


class GaussianImages(Denoiser):
    """The exact denoiser of independent pixels N(mean, std²)."""

    def __init__(self, mean: float = 0.3, std: float = 0.5):
        super().__init__()
        self.mean, self.std = mean, std
        self.domain = Domain(sigma_range=(1e-3, 10.0))

    def _denoise(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        s2 = expand(sigma**2, x)
        return (self.std**2 * x + s2 * self.mean) / (self.std**2 + s2)

    def gaussian_model(self):
        n = torch.Size(self.example_shape).numel()
        return torch.full(self.example_shape, self.mean), self.std**2 * torch.eye(n)

    @classmethod
    def example(cls) -> "GaussianImages":
        return cls()


class GaussianPosterior(PosteriorDenoiser):
    """E[x0 | x_t, y] for pixels N(mean, std²): both Gaussians on x0 make one, then the data term's prox."""

    def __init__(self, mean: float = 0.3, std: float = 0.5):
        super().__init__()
        self.mean, self.std = mean, std
        self.domain = Domain(sigma_range=(1e-3, 10.0))

    def _posterior_denoise(self, x, sigma, problem):
        tau = 1 / (self.std**-2 + sigma**-2)
        centre = expand(tau, x) * (self.mean / self.std**2 + x / expand(sigma**2, x))
        return problem.prox(centre, tau)

    def gaussian_model(self):
        return GaussianImages(mean=self.mean, std=self.std).gaussian_model()

    @classmethod
    def example(cls) -> "GaussianPosterior":
        return cls()


class Ridge(Proximable):
    """h(x) = weight/2·‖x‖²."""

    def __init__(self, weight: float = 0.7):
        super().__init__()
        self.weight = weight

    def _prox(self, z: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        return z / (1 + self.weight * expand(tau, z))

    def _value(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight / 2 * x.abs().square().flatten(1).sum(1)

    @classmethod
    def example(cls) -> "Ridge":
        return cls()


class SoftThreshold(Proximable):
    """h(x) = weight·‖x‖₁, real or complex."""

    def __init__(self, weight: float = 0.7):
        super().__init__()
        self.weight = weight

    def _prox(self, z: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        size = z.abs()
        shrunk = (size - self.weight * expand(tau, z)).clamp_min(0)
        return z * (shrunk / torch.where(size > 0, size, torch.ones_like(size)))

    def _value(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x.abs().flatten(1).sum(1)

    @classmethod
    def example(cls) -> "SoftThreshold":
        return cls()
