"""Other libraries' own operators and solvers as methods of a suite (``call``), for comparisons of speed.

Each is given the operator's and the noise's config, makes the library's operator of the same map, and returns the
function that is timed: a measurement in, an image out, NumPy both. Data are complex images (1, H, W) of several coils,
or real ones (1, H, W) under a circular blur.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from pnpkit import registry
from pnpkit.errors import CapabilityError

Config = dict[str, Any]
Reconstruct = Callable[[np.ndarray], np.ndarray]


def sigpy_cg(operator: Config, noise: Config, n_steps: int) -> Reconstruct:
    """CG-SENSE by ``sigpy.app.LinearLeastSquares``."""
    import sigpy as sp

    ours = _built(operator, "mri", "non_cartesian_mri")
    maps = ours.maps.numpy()
    coils = sp.linop.Multiply(maps.shape[1:], maps)
    if hasattr(ours, "trajectory"):
        linop = sp.linop.NUFFT(maps.shape, ours.trajectory.numpy()) * coils
    else:
        linop = sp.linop.Multiply(maps.shape, ours.mask.numpy()) * sp.linop.FFT(maps.shape, axes=(-2, -1)) * coils

    def reconstruct(y: np.ndarray) -> np.ndarray:
        x: Any = sp.app.LinearLeastSquares(linop, y, max_iter=n_steps, show_pbar=False).run()
        return x[None]

    return reconstruct


def deepinv_cg(operator: Config, noise: Config, n_steps: int) -> Reconstruct:
    """CG-SENSE with ``deepinv.physics.MultiCoilMRI`` and deepinv's conjugate gradients."""
    from deepinv.physics import MultiCoilMRI

    ours = _built(operator, "mri")
    physics = MultiCoilMRI(mask=ours.mask[0], coil_maps=ours.maps[None], img_size=(2, *ours.in_shape[-2:]))

    def reconstruct(y: np.ndarray) -> np.ndarray:
        pairs = torch.view_as_real(torch.from_numpy(y)).movedim(-1, 0)[None].contiguous()
        x = _deepinv_cg(physics.A_adjoint_A, physics.A_adjoint(pairs), n_steps)
        return torch.view_as_complex(x[0].movedim(0, -1).contiguous())[None].numpy()

    return reconstruct


def torchkbnufft_cg(operator: Config, noise: Config, n_steps: int) -> Reconstruct:
    """CG with torchkbnufft's Toeplitz normal operator; the library has no solver, the loop is deepinv's."""
    import torchkbnufft as tkbn

    ours = _built(operator, "non_cartesian_mri")
    size, maps = ours.in_shape[1:], ours.maps[None]
    omega = (2 * math.pi * ours.trajectory / torch.tensor(size)).T.contiguous()
    adjoint, normal = tkbn.KbNufftAdjoint(im_size=size), tkbn.ToepNufft()
    kernel = tkbn.calc_toeplitz_kernel(omega, im_size=size)
    scale = 1 / math.prod(size)  # their transforms are not scaled

    def reconstruct(y: np.ndarray) -> np.ndarray:
        b = math.sqrt(scale) * adjoint(torch.from_numpy(y)[None], omega, smaps=maps)
        x = _deepinv_cg(lambda v: scale * normal(v, kernel, smaps=maps), b, n_steps)
        return x[0].numpy()

    return reconstruct


def deepinv_fista(
    operator: Config, noise: Config, n_steps: int, weight: float, wavelet: str, levels: int
) -> Reconstruct:
    """Deblurring with an L1-wavelet prior by ``deepinv.optim.FISTA``."""
    from deepinv.optim import FISTA, L2, WaveletPrior
    from deepinv.physics import BlurFFT

    ours = _built(operator, "blur")
    physics = BlurFFT(img_size=ours.in_shape, filter=ours.kernel[None])
    prior = WaveletPrior(level=levels, wv=wavelet, mode="periodic")
    # deepinv 0.5.0 calls this prox without its threshold, which is then 0.1: ten times the weight makes up for it.
    strength = 10 * weight * float(noise["sigma"]) ** 2
    step = float(ours.norm()) ** -2
    model = FISTA(data_fidelity=L2(), prior=prior, lambda_reg=strength, stepsize=step, max_iter=n_steps)

    def reconstruct(y: np.ndarray) -> np.ndarray:
        return model(torch.from_numpy(y)[None], physics)[0].numpy()

    return reconstruct


def sigpy_fista(operator: Config, noise: Config, n_steps: int, weight: float, wavelet: str, levels: int) -> Reconstruct:
    """Deblurring with an L1-wavelet prior by ``sigpy.app.LinearLeastSquares``, its accelerated gradient method."""
    import pywt
    import sigpy as sp

    ours = _built(operator, "blur")
    size = ours.in_shape[1:]
    kernel = ours.kernel.numpy()[0]
    there = np.zeros(size, dtype=np.complex64)
    there[: kernel.shape[0], : kernel.shape[1]] = kernel
    there = np.roll(there, [-(n // 2) for n in kernel.shape], (0, 1))
    spectrum = np.fft.fftshift(np.fft.fft2(there)).astype(np.complex64)
    fft = sp.linop.FFT(size)
    blur = fft.H * sp.linop.Multiply(size, spectrum) * fft
    transform = sp.linop.Wavelet(size, wave_name=wavelet, level=levels)
    penalty = np.full(transform.oshape, weight * float(noise["sigma"]) ** 2, dtype=np.float32)
    coarse = pywt.wavedec2(np.zeros(size), wavelet, mode="zero", level=levels)[0].shape
    penalty[: coarse[0], : coarse[1]] = 0  # details only, as in ours and deepinv's
    prox = sp.prox.UnitaryTransform(sp.prox.L1Reg(transform.oshape, penalty), transform)
    step = float(ours.norm()) ** -2

    def reconstruct(y: np.ndarray) -> np.ndarray:
        data = y[0].astype(np.complex64)
        app = sp.app.LinearLeastSquares(blur, data, proxg=prox, alpha=step, max_iter=n_steps, show_pbar=False)
        x: Any = app.run()
        return x[None].real

    return reconstruct


def _deepinv_cg(normal: Callable[[torch.Tensor], torch.Tensor], b: torch.Tensor, n_steps: int) -> torch.Tensor:
    """Exactly ``n_steps`` iterations."""
    from deepinv.optim.linear import conjugate_gradient

    return conjugate_gradient(normal, b, max_iter=n_steps, tol=0.0)


def _built(operator: Config, *names: str) -> Any:
    """Our operator, whose masks, maps and kernels are theirs."""
    if operator["name"] not in names:
        raise CapabilityError(f"it is written for {' and '.join(names)}, the task's operator is {operator['name']}")
    return registry.build("operators", dict(operator))
