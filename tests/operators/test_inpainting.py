"""Inpainting and elementwise operators: toy values."""

import torch

from pnpkit import make
from pnpkit.operators import Diagonal, Identity, Inpainting


def test_toy_values():
    mask = torch.tensor([[[1.0, 0.0, 0.5]]])
    a = Inpainting(mask=mask)
    x = torch.tensor([[[[2.0, 3.0, 4.0]]]])
    assert a(x).tolist() == [[[[2.0, 0.0, 2.0]]]]
    assert a.adjoint(x).tolist() == [[[[2.0, 0.0, 2.0]]]]
    assert a.pinv(a(x)).tolist() == [[[[2.0, 0.0, 4.0]]]]
    assert float(a.norm()) == 1.0
    # (z + tau·m·y)/(1 + tau·m²)
    z, y = torch.ones(1, 1, 1, 3), torch.tensor([[[[5.0, 9.0, 3.0]]]])
    assert torch.allclose(a.prox_l2(z, y, 2.0), torch.tensor([[[[11 / 3, 1.0, 4 / 1.5]]]]))


def test_start_fills_holes_with_what_is_near():
    column = torch.linspace(0, 1, 32)
    x = column.expand(1, 1, 32, 32).clone()
    mask = make("random_mask", shape=(1, 32, 32), fraction=0.5, seed=1)
    mask[0, 8:20, 8:20] = 0
    a = Inpainting(mask=mask)
    start = a.initial(a(x))
    assert torch.equal(start[:, mask == 1], x[:, mask == 1])
    assert float((start - x).abs().max()) < 0.25
    assert float((start - x)[..., 8:20, 8:20].abs().mean()) < 0.1


def test_start_of_a_nearly_empty_and_of_a_weighted_mask():
    mask = torch.zeros(1, 9, 7)
    mask[0, 4, 3] = 0.25
    a = Inpainting(mask=mask, complex=True)
    x = torch.full((2, 1, 9, 7), 2 - 1j)
    assert torch.allclose(a.initial(a(x)), x)


def test_identity_and_complex_diagonal():
    x = torch.randn(2, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Identity(shape=(1, 2, 2))(x), x)
    weight = torch.tensor([[[1 + 1j, 2.0], [1j, 0.5]]])
    a = Diagonal(weight=weight, shape=(1, 2, 2))
    y = a(x)
    assert y.is_complex() and torch.allclose(y, weight * x)
    assert torch.allclose(a.adjoint(y), (weight.abs() ** 2) * x)  # real images: the real part of conj(w)·y
