"""Patterns of coded measurements: phase masks, Hadamard coefficients, blending maps."""

import math

import torch
from pydantic import NonNegativeInt, PositiveInt

from pnpkit.errors import ShapeError, SpecError
from pnpkit.operators.makers import validated
from pnpkit.types import Shape


@validated
def phase_codes(shape: Shape, n: PositiveInt, seed: NonNegativeInt = 0) -> torch.Tensor:
    """(n, H, W) complex codes of modulus 1, each entry 1, −1, i or −i with equal chance.

    The quaternary codes of Candès, Li & Soltanolkotabi (2015, §1.3), without their random moduli.

    shape : (H, W).
    """
    if len(shape) != 2:
        raise ShapeError(f"phase_codes: shape is (H, W), given {tuple(shape)}.")
    rng = torch.Generator().manual_seed(seed)
    quarter = torch.randint(4, (n, *shape), generator=rng)
    return torch.tensor([1, 1j, -1, -1j], dtype=torch.complex64)[quarter]


@validated
def hadamard_order(shape: Shape, m: PositiveInt) -> torch.Tensor:
    """(m,) natural-order indices of the Walsh–Hadamard coefficients with the fewest sign changes, rows plus columns.

    shape : (H, W), powers of two. Ties are broken by the larger of the two counts, then by index.
    """
    if len(shape) != 2 or any(n < 1 or n & (n - 1) for n in shape):
        raise ShapeError(f"hadamard_order: shape is (H, W), powers of two, given {tuple(shape)}.")
    height, width = shape
    if m > height * width:
        raise SpecError(f"hadamard_order: at most {height * width} coefficients for {height}×{width}, given {m}.")
    rows, columns = _sequencies(height), _sequencies(width)
    both = [
        (rows[i] + columns[j], max(rows[i], columns[j]), i * width + j) for i in range(height) for j in range(width)
    ]
    return torch.tensor(sorted(index for *_, index in sorted(both)[:m]))


def _sequencies(n: int) -> list[int]:
    """Sign changes along each row of the n×n Hadamard matrix in natural order: Gray decoding of reversed bits."""
    bits = n.bit_length() - 1
    counts = []
    for i in range(n):
        gray = int(format(i, f"0{bits}b")[::-1], 2) if bits else 0
        value = 0
        while gray:
            value ^= gray
            gray >>= 1
        counts.append(value)
    return counts


@validated
def blend_maps(shape: Shape, rows: PositiveInt, columns: PositiveInt) -> torch.Tensor:
    """(rows·columns, H, W) raised-cosine maps on a grid of centres that sum to 1 at every pixel.

    shape : (H, W).
    """
    if len(shape) != 2:
        raise ShapeError(f"blend_maps: shape is (H, W), given {tuple(shape)}.")
    along = [_bumps(n, k) for n, k in zip(shape, (rows, columns), strict=True)]
    return torch.einsum("ih,jw->ijhw", *along).flatten(0, 1)


def _bumps(n: int, k: int) -> torch.Tensor:
    """(k, n): bumps around k equally spaced centres, constant beyond the outer ones."""
    at = (torch.arange(n) + 0.5) / n * k - 0.5
    at = at.clamp(0, k - 1)
    away = (at - torch.arange(k)[:, None]).abs().clamp(max=1)
    return 0.5 * (1 + torch.cos(math.pi * away))
