"""Engines outside torch (NumPy, finufft, ASTRA, sigpy) as differentiable linear maps.

New-style ``autograd.Function`` with ``setup_context``, so ``torch.func`` transforms work; the
legacy style does not.
"""

from collections.abc import Callable

import numpy as np
import torch

Engine = Callable[[np.ndarray], np.ndarray]


class _External(torch.autograd.Function):
    @staticmethod
    def forward(x: torch.Tensor, forward: Engine, adjoint: Engine, out_dtype: torch.dtype) -> torch.Tensor:
        # The engine gets its own contiguous copy, so it can never write into the caller's tensor.
        result = forward(np.array(x.detach().cpu().resolve_conj().numpy(), order="C"))
        return torch.from_numpy(np.ascontiguousarray(result)).to(x.device, out_dtype)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        x, ctx.forward_engine, ctx.adjoint_engine, _ = inputs
        ctx.in_dtype = x.dtype

    @staticmethod
    def backward(ctx, grad: torch.Tensor):  # type: ignore[override]
        # The adjoint is itself differentiable: its own adjoint is the forward engine.
        back = _External.apply(grad.contiguous(), ctx.adjoint_engine, ctx.forward_engine, ctx.in_dtype)
        return back, None, None, None


def apply_external(x: torch.Tensor, forward: Engine, adjoint: Engine, out_dtype: torch.dtype) -> torch.Tensor:
    """``forward(x)`` by a NumPy engine; gradients by ``adjoint``, to any order.

    x is (B, *in), the engines map C-contiguous arrays (B, *in) <-> (B, *out) and must be linear and each
    other's adjoint (real adjoint for real -> complex).
    """
    return _External.apply(x, forward, adjoint, out_dtype)  # type: ignore[return-value]
