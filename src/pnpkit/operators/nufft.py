"""The non-uniform Fourier transform: engines, gradients in image and trajectory, and the Toeplitz normal operator."""

import math
from typing import Any, Literal, Protocol

import numpy as np
import torch

from pnpkit.types import Shape

Engine = Literal["finufft", "torchkbnufft"]
SINGLE = 2e-5  # below, single precision takes four times as long and does not get there; double does, in twice the time


class Transform(Protocol):
    """F at fixed points: images (T, *size) complex <-> samples (T, M), unscaled; ``adjoint`` is the exact adjoint."""

    def forward(self, x: torch.Tensor) -> torch.Tensor: ...

    def adjoint(self, y: torch.Tensor) -> torch.Tensor: ...


def transform(engine: Engine, points: torch.Tensor, size: Shape, eps: float, dtype: torch.dtype) -> Transform:
    """y_j = Σ_n x_n exp(−2πi Σ_d k_jd n_d/N_d), n_d from −⌊N_d/2⌋; points (M, d) in cycles per field of view."""
    if engine == "finufft":
        return Finufft(points, size, eps, dtype)
    return KaiserBessel(points, size, dtype)


class Finufft:
    """FINUFFT (Barnett, Magland & af Klinteberg, SISC 41(5), 2019): one plan a direction and number of transforms."""

    def __init__(self, points: torch.Tensor, size: Shape, eps: float, dtype: torch.dtype, upsampling: float = 0.0):
        radians = [2 * math.pi * points[:, d].double() / n for d, n in enumerate(size)]
        single = dtype == torch.complex64 and eps >= SINGLE
        real = np.float32 if single else np.float64
        self.points = [np.ascontiguousarray(r.cpu().numpy(), dtype=real) for r in radians]
        self.size, self.eps, self.result = tuple(size), eps, dtype
        self.dtype = np.complex64 if single else np.complex128
        self.upsampling = upsampling  # of finufft's own grid; 0: it chooses
        self.plans: dict[tuple[int, int, int], Any] = {}

    def _plan(self, kind: int, n: int) -> Any:
        import finufft

        key = (kind, n, torch.get_num_threads())
        if key not in self.plans:
            sign = 1 if kind == 1 else -1
            options = {"eps": self.eps, "isign": sign, "dtype": np.dtype(self.dtype).name, "nthreads": key[2]}
            options |= {"upsampfac": self.upsampling} if self.upsampling else {}
            if key[2] == 1:  # in one thread, eight planes and more are faster together, two to four much slower
                options["maxbatchsize"] = n if n >= 8 and len(self.size) == 2 else 1
            plan = finufft.Plan(kind, self.size, n, **options)
            plan.setpts(*self.points)
            self.plans[key] = plan
        return self.plans[key]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._executed(2, x).reshape(len(x), -1)

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return self._executed(1, y).reshape(len(y), *self.size)

    def _executed(self, kind: int, t: torch.Tensor) -> torch.Tensor:
        array = np.ascontiguousarray(t.detach().cpu().resolve_conj().numpy(), dtype=self.dtype)
        out = self._plan(kind, len(array)).execute(array if len(array) > 1 else array[0])
        return torch.from_numpy(out).to(t.device, self.result)


class KaiserBessel:
    """torchkbnufft's table interpolation (Muckley et al. 2020): slower, 7e-4 accurate, on any torch device."""

    def __init__(self, points: torch.Tensor, size: Shape, dtype: torch.dtype):
        from torchkbnufft import KbNufft, KbNufftAdjoint

        real = dtype.to_real()
        scale = torch.tensor([2 * math.pi / n for n in size], dtype=real, device=points.device)
        self.points = (points.detach().to(real) * scale).mT.contiguous()
        options = {"im_size": tuple(size), "dtype": dtype, "device": points.device}
        self.to, self.back = KbNufft(**options), KbNufftAdjoint(**options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.to(x.detach()[None], self.points)[0]

    def adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return self.back(y.detach()[None], self.points)[0]


class Nufft(torch.autograd.Function):
    """F(k) x or F(k)^H y with gradients in image and points, to any order.

    ∂F/∂k_d multiplies the image by −2πi n_d/N_d before F: the gradient in the points is d more transforms.
    ``make(k)`` gives the transform; ``grids`` are the −2πi n_d/N_d, broadcastable to images.
    """

    @staticmethod
    def forward(x: torch.Tensor, k: torch.Tensor, make: Any, grids: Any, adjoint: bool) -> torch.Tensor:  # type: ignore[override]
        engine = make(k.detach())
        return engine.adjoint(x) if adjoint else engine.forward(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, k, ctx.make, ctx.grids, ctx.is_adjoint = inputs
        ctx.save_for_backward(x, k)

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor):  # type: ignore[override]
        x, k = ctx.saved_tensors
        in_x = Nufft.apply(g, k, ctx.make, ctx.grids, not ctx.is_adjoint) if ctx.needs_input_grad[0] else None
        in_k = None
        if ctx.needs_input_grad[1]:
            image, samples = (g, x) if ctx.is_adjoint else (x, g)
            columns = []
            for grid in ctx.grids:
                moved: Any = Nufft.apply(grid * image, k, ctx.make, ctx.grids, False)
                columns.append((samples.conj() * moved).real.sum(0))
            in_k = torch.stack(columns, -1)
        return in_x, in_k, None, None, None


def grids(size: Shape, dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, ...]:
    """−2πi n_d/N_d for every axis, shaped to broadcast over images."""
    found = []
    for d, n in enumerate(size):
        axis = (torch.arange(n, device=device) - n // 2).to(dtype.to_real()) * (-2 * math.pi / n)
        found.append((1j * axis).to(dtype).reshape([-1 if i == d else 1 for i in range(len(size))]))
    return tuple(found)


def toeplitz_spectrum(points: torch.Tensor, size: Shape, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Real spectrum (2N_1, 2N_2, …) of FᴴF as a convolution on a grid twice as large, float64.

    FᴴF depends on differences of pixels only: t_m = Σ_j w_j exp(2πi k_j·m/N), m from −N to N − 1 (Wajer & Pruessmann,
    ISMRM 2001; Fessler et al., IEEE TSP 53(9), 2005). Its transform is computed once, to 1e-9. As t is Hermitian, lags
    ≥ 0 along the last axis are enough: half the memory.
    """
    *outer, last = size
    points = points.detach().double()
    # On doubled axes the same frequencies are 2k cycles per (doubled) field of view; lags of the last start at 0.
    doubled = torch.cat([2 * points[:, :-1], points[:, -1:]], 1)
    upsampling = 1.25 if len(size) == 3 else 2.0
    engine = Finufft(doubled, (*(2 * n for n in outer), last), 1e-9, torch.complex128, upsampling)
    start = torch.polar(torch.ones_like(points[:, -1]), 2 * math.pi / last * (last // 2) * points[:, -1])
    half = engine.adjoint((start if weights is None else start * weights)[None])[0]
    del engine  # and its grids
    for axis, n in enumerate(outer):
        half = half.index_fill(axis, torch.tensor([0]), 0)  # lag −N is never used; without it t is Hermitian
        half = half.roll(-n, axis)
    half = torch.nn.functional.pad(half, (0, 1))
    return torch.fft.hfftn(half, s=[2 * n for n in size], dim=list(range(len(size))))
