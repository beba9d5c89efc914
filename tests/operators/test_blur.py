"""Blurs, decimation and super-resolution against SciPy, dense linear algebra and each other."""

import numpy as np
import pytest
import torch
from scipy import ndimage, signal

from pnpkit import make
from pnpkit.errors import ShapeError, SpecError
from pnpkit.linalg import dense
from pnpkit.operators import Blur, Decimation, SuperResolution, ValidBlur
from pnpkit.operators.valid_blur import fast_size

SIZES = [(1, 1), (3, 3), (3, 4), (4, 2), (5, 7), (8, 6)]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def kernel_of(size, channels: int = 1, samples: int | None = None) -> torch.Tensor:
    shape = (channels, *size) if samples is None else (samples, channels, *size)
    return torch.rand(shape, dtype=torch.float64, generator=rng(1)) - 0.2


def images(shape=(2, 8, 9), n: int = 3, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(n, *shape, dtype=dtype, generator=rng(2))


@pytest.mark.parametrize("size", SIZES)
def test_blur_is_scipys_circular_convolution(size):
    kernel, x = kernel_of(size), images()
    y = Blur(kernel=kernel, shape=(2, 8, 9))(x)
    wanted = [[ndimage.convolve(c, kernel[0].numpy(), mode="wrap") for c in im] for im in x.numpy()]
    assert np.allclose(y.numpy(), wanted, atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_valid_blur_is_scipys_valid_convolution(size):
    kernel = kernel_of(size)
    for x in (images(), images(dtype=torch.complex128)):
        y = ValidBlur(kernel=kernel, shape=(2, 8, 9), complex=x.is_complex())(x)
        wanted = [[signal.convolve2d(c, kernel[0].numpy(), mode="valid") for c in im] for im in x.numpy()]
        assert np.allclose(y.numpy(), wanted, atol=1e-12)


def test_inside_valid_and_circular_blur_agree():
    kernel, x = kernel_of((3, 5)), images()
    whole, inside = Blur(kernel=kernel, shape=(2, 8, 9))(x), ValidBlur(kernel=kernel, shape=(2, 8, 9))(x)
    assert torch.allclose(whole[..., 1:7, 2:7], inside, atol=1e-12)


def test_a_shifted_impulse_shifts():
    kernel = torch.zeros(1, 3, 3, dtype=torch.float64)
    kernel[0, 2, 1] = 1  # one row below the centre
    x = images()
    assert torch.allclose(Blur(kernel=kernel, shape=(2, 8, 9))(x), x.roll(1, -2), atol=1e-12)


def test_one_kernel_a_channel_and_one_a_sample():
    x = images()
    channels, samples = kernel_of((3, 3), channels=2), kernel_of((3, 3), samples=3)
    y = Blur(kernel=channels, shape=(2, 8, 9))(x)
    for c in range(2):
        alone = Blur(kernel=channels[c : c + 1], shape=(1, 8, 9))(x[:, c : c + 1])
        assert torch.allclose(y[:, c : c + 1], alone, atol=1e-12)
    y = Blur(kernel=samples, shape=(2, 8, 9))(x)
    for b in range(3):
        assert torch.allclose(y[b], Blur(kernel=samples[b], shape=(2, 8, 9))(x[b : b + 1])[0], atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize("kind", ["shared", "channels", "samples", "complex"])
def test_super_resolution_is_decimation_of_blur(size, factor, kind):
    is_complex = kind == "complex"
    kernel = kernel_of(size, 2 if kind == "channels" else 1, 3 if kind == "samples" else None)
    shape = (2, 8, 12)
    whole = SuperResolution(kernel=kernel, factor=factor, shape=shape, complex=is_complex)
    blur = Blur(kernel=kernel, shape=shape, complex=is_complex)
    parts = Decimation(factor=factor, shape=shape, complex=is_complex).to(torch.float64) @ blur
    x = images(shape, dtype=torch.complex128 if is_complex else torch.float64)
    y = whole(x)
    assert torch.allclose(y, parts(x), atol=1e-12)
    assert torch.allclose(whole.adjoint(y), parts.adjoint(y), atol=1e-12)
    assert torch.allclose(whole.normal(x), parts.normal(x), atol=1e-11)
    assert torch.allclose(whole.prox_l2(x, y, 0.7), parts.prox_l2(x, y, 0.7), atol=1e-11)
    assert torch.allclose(whole.pinv(y), parts.pinv(y), atol=1e-8)
    assert torch.allclose(torch.as_tensor(whole.norm()), torch.as_tensor(parts.norm()), rtol=1e-6)


@pytest.mark.parametrize("size", [(5, 7), (12, 12)])  # by strided convolution, and by FFT
@pytest.mark.parametrize("factor", [2, 3])
def test_super_resolution_prox_is_the_dense_solution(size, factor):
    shape = (1, 12, 18)
    operator = SuperResolution(kernel=kernel_of(size), factor=factor, shape=shape)
    assert operator._direct == (size == (5, 7))
    a = dense(operator._forward, shape, torch.float64)
    z = images(shape)
    y, tau = operator(images(shape) + 1), torch.tensor([0.0, 0.4, 30.0], dtype=torch.float64)
    found = operator.prox_l2(z, y, tau).flatten(1)
    for b in range(3):
        left = torch.eye(a.shape[1], dtype=a.dtype) + tau[b] * a.T @ a
        assert torch.allclose(found[b], torch.linalg.solve(left, z[b].flatten() + tau[b] * a.T @ y[b].flatten()))


def test_closed_forms_do_not_iterate():
    """A loose inner solver changes nothing where there is no inner solver."""
    shape, kernel = (1, 8, 12), kernel_of((3, 3))
    blur, coarse = Blur(kernel=kernel, shape=shape), Decimation(factor=2, shape=shape).to(torch.float64)
    for operator in (blur, coarse @ blur, 2.0 * (coarse @ blur), blur.H, blur + 0.5 * blur):
        x = images(operator.in_shape)
        y = operator(x)
        loose = operator.with_cg(tol=0.9, max_iter=1)
        assert torch.equal(operator.prox_l2(x, y, 2.0), loose.prox_l2(x, y, 2.0))
        assert torch.equal(operator.pinv(y), loose.pinv(y))


def test_kernel_gradients_equal_finite_differences():
    x = images((1, 6, 6), n=1)
    for cls, more in ((Blur, {}), (ValidBlur, {}), (SuperResolution, {"factor": 2})):
        operator = cls(kernel=kernel_of((3, 3)), shape=(1, 6, 6), **more)
        assert torch.autograd.gradcheck(
            lambda k, op=operator: op.at(kernel=k)(x), (kernel_of((3, 3)).requires_grad_(),), fast_mode=True
        )


def test_bicubic_kernel_is_torchs_antialiased_downsizing_inside():
    x = torch.rand(1, 1, 48, 48, dtype=torch.float64, generator=rng())
    kernel = make("bicubic_kernel", factor=4).double()
    y = SuperResolution(kernel=kernel, factor=4, shape=(1, 48, 48))(x)
    wanted = torch.nn.functional.interpolate(x, scale_factor=0.25, mode="bicubic", antialias=True)
    assert torch.allclose(y[..., 3:-3, 3:-3], wanted[..., 3:-3, 3:-3], atol=1e-6)


def test_fast_size():
    assert [fast_size(n) for n in (1, 7, 11, 16, 23, 127, 257)] == [2, 8, 12, 16, 24, 128, 270]


@pytest.mark.parametrize("cls", [Blur, ValidBlur])
def test_bad_kernels(cls):
    with pytest.raises(ShapeError, match=r"kernel\[None\]"):
        cls(kernel=torch.ones(3, 3), shape=(1, 8, 8))
    with pytest.raises(ShapeError, match="larger than the image"):
        cls(kernel=torch.ones(1, 9, 3), shape=(1, 8, 8))
    with pytest.raises(SpecError, match="zero everywhere"):
        cls(kernel=torch.zeros(1, 3, 3), shape=(1, 8, 8))
    with pytest.raises(ShapeError, match="divide"):
        SuperResolution(kernel=torch.ones(1, 3, 3), factor=3, shape=(1, 8, 8))
