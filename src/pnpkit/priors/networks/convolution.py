"""3×3 convolutions that may run in C++, with their gradients: for training, and for samplers that differentiate."""

import functools
import logging

import torch
from torch import nn

from pnpkit import native
from pnpkit.errors import CapabilityError

log = logging.getLogger("pnpkit")
ALIGNED = 16  # channels that the C++ code takes at a time


class Conv3x3(nn.Conv2d):
    """3×3 with a border of zeros; with ``native_code`` it and its gradients are the C++ backend's (``use_native``).

    There by Winograd's algorithm, as in inference, on the CPU, in float32 or, inside of autocast, with products in
    bfloat16: then the error is about three times that of a direct convolution in bfloat16 (native/NOTES.md). Gradients
    of weights stay in float32. float64, vmap, forward-mode derivatives and torch.export take torch's convolution.
    """

    native_code = False

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, 3, padding=1)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """input (B, inputs, H, W) -> (B, outputs, H, W)."""
        if not self.native_code or input.dtype == torch.float64 or _transformed():
            return super().forward(input)
        half = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
        return _Convolution.apply(input.to(torch.bfloat16 if half else torch.float32), self.weight, self.bias)


def use_native(network: nn.Module, backend: native.Backend, bf16: bool) -> None:
    """Have the network's 3×3 convolutions computed in C++ where they can be.

    CapabilityError where ``backend="native"`` and none can.
    """
    takes = [m for m in network.modules() if isinstance(m, Conv3x3) and _fits(m)]
    reason = None if backend == "python" else _why_not(bf16, takes)
    if backend == "native" and reason:
        raise CapabilityError(f"The network has no native convolutions: {reason}")
    if reason:
        log.info("convolutions in Python: %s", reason)
    for module in takes:
        module.native_code = backend != "python" and reason is None


def _fits(module: Conv3x3) -> bool:
    aligned = module.in_channels % ALIGNED == 0 and module.out_channels % ALIGNED == 0
    return aligned and module.weight.device.type == "cpu" and module.weight.dtype == torch.float32


def _why_not(bf16: bool, takes: list[Conv3x3]) -> str | None:
    if not takes:
        return f"no 3×3 convolution on the CPU has multiples of {ALIGNED} channels."
    if reason := native.absent():
        return reason
    if not native.load().has_convolutions(bf16):
        return f"this processor has no AVX-512{' with bfloat16' if bf16 else ''}."
    _register()
    return None


def _transformed() -> bool:
    """Inside of vmap or of forward-mode derivatives; or of torch.export, whose programs run without pnpkit."""
    if torch.compiler.is_compiling():
        return torch.compiler.is_exporting()
    stack = torch._C._functorch.get_interpreter_stack() or ()  # type: ignore[attr-defined]
    return native.is_paused() or any(level.key() != torch._C._functorch.TransformType.Grad for level in stack)  # type: ignore[attr-defined]


def _last(image: torch.Tensor) -> torch.Tensor:
    return image.contiguous(memory_format=torch.channels_last)


class _Bilinear(torch.autograd.Function):
    """What the three functions share: linear in both of their first two arguments."""

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs[:2])


class _Convolution(_Bilinear):
    @staticmethod
    def forward(image, weight, bias):
        return torch.ops.pnpkit.convolution(_last(image), weight, bias)

    @staticmethod
    def backward(ctx, g):  # type: ignore[override]
        image, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return (
            _ImageGradient.apply(g, weight) if wanted[0] else None,
            _WeightGradient.apply(image, g, weight) if wanted[1] else None,
            g.sum((0, 2, 3), dtype=torch.float32) if wanted[2] else None,
        )


class _ImageGradient(_Bilinear):
    @staticmethod
    def forward(gradient, weight):
        return torch.ops.pnpkit.convolution_image_gradient(_last(gradient), weight)

    @staticmethod
    def backward(ctx, g):  # type: ignore[override]
        gradient, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return (
            _Convolution.apply(g, weight, None) if wanted[0] else None,
            _WeightGradient.apply(g, gradient, weight) if wanted[1] else None,
        )


class _WeightGradient(_Bilinear):
    """``weight`` says the shape and the order in memory."""

    @staticmethod
    def forward(image, gradient, weight):
        return torch.ops.pnpkit.convolution_weight_gradient(_last(image), _last(gradient), weight)

    @staticmethod
    def backward(ctx, g):  # type: ignore[override]
        image, gradient = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return (
            _ImageGradient.apply(gradient, g) if wanted[0] else None,
            _Convolution.apply(image, g, None) if wanted[1] else None,
            None,
        )


@functools.cache
def _register() -> None:
    """Tell torch the shapes of the C++ functions, for ``torch.compile``."""

    def like(image: torch.Tensor, channels: int) -> torch.Tensor:
        return _last(image.new_empty(image.shape[0], channels, *image.shape[2:]))

    fake = torch.library.register_fake
    fake("pnpkit::convolution", lambda image, weight, bias: like(image, weight.shape[0]))
    fake("pnpkit::convolution_image_gradient", lambda gradient, weight: like(gradient, weight.shape[1]))
    fake("pnpkit::convolution_weight_gradient", lambda image, gradient, weight: torch.empty_like(weight))
