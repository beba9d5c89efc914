"""3×3 convolutions in C++ with gradients: in training, and inside of samplers that differentiate."""

import pytest
import torch

from pnpkit import native, registry
from pnpkit.errors import CapabilityError
from pnpkit.priors.networks.convolution import Conv3x3, use_native
from pnpkit.priors.networks.unet import UNet
from pnpkit.solvers.base import solve
from pnpkit.solvers.dps import DPS

from .problems import draw, needs_native, photo_problem

pytestmark = needs_native
SIZES = [(2, 16, 32, 8, 8), (1, 48, 16, 5, 9), (3, 80, 48, 17, 13), (1, 16, 16, 1, 1), (2, 208, 112, 4, 4)]


def layer(inputs: int, outputs: int, backend: native.Backend = "native", bf16: bool = False) -> Conv3x3:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        made = Conv3x3(inputs, outputs)
    use_native(made, backend, bf16)
    return made


def gradients(module: torch.nn.Module, x: torch.Tensor, g: torch.Tensor) -> list[torch.Tensor]:
    """Result, gradient of the image, of the weight, of the bias, in float64."""
    x = x.clone().requires_grad_()
    y = module(x)
    return [t.double() for t in (y.detach(), *torch.autograd.grad(y, (x, *module.parameters()), g.to(y.dtype)))]


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_result_and_gradients_are_torchs(size, channels_last):
    b, i, o, h, w = size
    x, g, own = draw(b, i, h, w), draw(b, o, h, w, seed=1), layer(i, o)
    if channels_last:
        own = own.to(memory_format=torch.channels_last)
    exact = gradients(layer(i, o, "python").double(), x.double(), g.double())
    for found, wanted in zip(gradients(own, x, g), exact, strict=True):
        assert distance(found, wanted) < 3e-6


@pytest.mark.parametrize("size", SIZES)
def test_in_bfloat16_errors_are_a_few_roundings(size):
    b, i, o, h, w = size
    x, g = draw(b, i, h, w), draw(b, o, h, w, seed=1)
    exact = gradients(layer(i, o, "python").double(), x.bfloat16().double(), g.bfloat16().double())
    with torch.autocast("cpu", torch.bfloat16):
        found = gradients(layer(i, o, bf16=True), x.bfloat16(), g)
    for a, wanted in zip(found, exact, strict=True):
        assert distance(a, wanted) < 0.02


def test_second_derivatives():
    own, plain = layer(16, 32), layer(16, 32, "python")
    found = []
    for module in (own, plain):
        x = draw(1, 16, 6, 7).requires_grad_()
        first = torch.autograd.grad(module(x).square().sum(), (x, module.weight), create_graph=True)
        value = first[0].square().sum() + first[1].square().sum()
        found.append(torch.autograd.grad(value, (x, module.weight)))
    for a, b in zip(*found, strict=True):
        assert distance(a, b) < 1e-5


def test_float64_and_transforms_take_torchs_convolution():
    own, plain = layer(16, 16), layer(16, 16, "python")
    x, v = draw(2, 16, 5, 6), draw(2, 16, 5, 6, seed=2)
    assert torch.equal(*(torch.func.jvp(m, (x,), (v,))[1] for m in (own, plain)))
    assert torch.equal(*(torch.func.vmap(m)(x[:, None]) for m in (own, plain)))
    back = [torch.func.vjp(m, x)[1](v)[0] for m in (own, plain)]  # as samplers do
    assert not torch.equal(*back) and distance(*back) < 1e-5
    assert torch.equal(own.double()(x.double()), plain.double()(x.double()))


def test_a_whole_network_and_compiled():
    found = []
    for backend in ("python", "native", "native"):
        torch.manual_seed(3)
        network = UNet(1, (16, 32), blocks=1).to(memory_format=torch.channels_last)
        for p in network.parameters():
            p.data.add_(0.02 * torch.randn_like(p))
        use_native(network, backend, bf16=False)
        run = torch.compile(network) if len(found) == 2 else network
        x = draw(2, 1, 16, 16).requires_grad_()
        y = run(x, network.embedding(torch.tensor([-0.3, 0.2])))
        found.append(torch.autograd.grad(y.square().sum(), (x, *(p for p in network.parameters() if p.ndim == 4))))
    for other in found[1:]:
        for a, b in zip(other, found[0], strict=True):
            assert distance(a, b) < 1e-5


def test_gradients_through_a_shipped_prior():
    problem = photo_problem()
    plain, fast = (
        solve(
            problem, registry.build("priors", {"name": "unet", "weights": "photos_gray", "backend": b}), DPS(n_steps=4)
        )
        for b in ("python", "auto")
    )
    assert float((plain.x - fast.x).abs().max()) < 1e-4


def test_what_cannot_be_native_says_why():
    with pytest.raises(CapabilityError, match="multiples of 16 channels"):
        layer(16, 20)
    assert not layer(16, 20, "auto").native_code
    own = layer(16, 16)
    use_native(own, "python", bf16=False)
    assert not own.native_code
    x, weight = draw(1, 16, 4, 4), torch.zeros(16, 16, 3, 3)
    wrong = (
        (torch.ops.pnpkit.convolution, (x, weight, None)),
        (
            torch.ops.pnpkit.convolution_weight_gradient,
            (x, x.bfloat16(), weight),
        ),
    )
    for call, arguments in wrong:
        with pytest.raises(RuntimeError, match=r"channels last|the gradient"):
            call(*arguments)
