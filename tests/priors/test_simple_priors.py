"""L1, L1-wavelet, Tikhonov, box and their sums: exact toy values and references."""

import pytest
import torch

from pnpkit.errors import ShapeError, SpecError
from pnpkit.operators import Gradient, Wavelet
from pnpkit.priors import L1, Box, L1Wavelet, SumPrior, Tikhonov


def test_l1_by_hand():
    z = torch.tensor([[3.0, -0.5, 0.0, -2.0]])
    assert torch.equal(L1(weight=2.0).prox(z, 0.5), torch.tensor([[2.0, 0.0, 0.0, -1.0]]))
    assert float(L1(weight=2.0).value(z)) == 11.0
    assert torch.allclose(L1(weight=1.0).prox(torch.tensor([[3 + 4j]]), 1.0), torch.tensor([[2.4 + 3.2j]]))


def test_group_l1_by_hand():
    z = torch.tensor([[[3.0, 0.1], [4.0, 0.1]]])  # groups are the columns
    expected = torch.tensor([[[2.4, 0.0], [3.2, 0.0]]])
    assert torch.allclose(L1(weight=1.0, group=0).prox(z, 1.0), expected)


def test_tikhonov_by_hand_and_with_an_operator():
    z = torch.tensor([[[1.0, 2.0, 4.0]]])
    assert torch.allclose(Tikhonov(weight=3.0).prox(z, 1.0), z / 4)
    d = Gradient(shape=(1, 3), axes=1)
    ours = Tikhonov(weight=3.0, operator=d.with_cg(tol=1e-7)).prox(z, 0.5)
    laplacian = torch.tensor([[1.0, -1, 0], [-1, 2, -1], [0, -1, 1]])
    expected = torch.linalg.solve(torch.eye(3) + 1.5 * laplacian, z.flatten()).reshape(z.shape)
    assert torch.allclose(ours, expected, atol=1e-5)
    with pytest.raises(ShapeError, match="works on"):
        Tikhonov(weight=3.0, operator=d).prox(torch.zeros(1, 1, 5), 1.0)


def test_box_clips_and_refuses_complex():
    z = torch.tensor([[-1.0, 0.5, 2.0]])
    assert torch.equal(Box(low=0.0, high=1.0).prox(z, 7.0), torch.tensor([[0.0, 0.5, 1.0]]))
    assert float(Box().value(z)) == torch.inf and float(Box(low=-1.0).value(z)) == 0
    with pytest.raises(ShapeError, match="complex"):
        Box().prox(torch.zeros(1, 2, dtype=torch.complex64), 1.0)
    for bounds in ({"low": None, "high": None}, {"low": 2.0, "high": 1.0}):
        with pytest.raises(SpecError, match="Box"):
            Box(**bounds)


def test_l1_wavelet_leaves_the_coarse_image_alone():
    constant = torch.full((1, 1, 16, 16), 3.0)
    prior = L1Wavelet(weight=5.0, wavelet="haar", levels=2)
    assert torch.allclose(prior.prox(constant, 1.0), constant, atol=1e-5)
    assert float(prior.value(constant)) < 1e-3


def test_l1_wavelet_is_shrinkage_of_the_details():
    z = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    w = Wavelet(shape=(1, 16, 16), wavelet="db2", levels=2)
    c = w(z)
    shrunk = c.sign() * (c.abs() - 0.3).clamp_min(0)
    shrunk[..., :4, :4] = c[..., :4, :4]
    assert torch.allclose(L1Wavelet(weight=0.6, wavelet="db2", levels=2).prox(z, 0.5), w.adjoint(shrunk), atol=1e-5)


def test_cycle_spinning_commutes_with_a_shift_only_when_all_shifts_are_averaged():
    z = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    one, two = (L1Wavelet(weight=1.0, wavelet="haar", levels=1, shifts=s) for s in (1, 2))
    rolled = torch.roll(z, (1, 1), (-2, -1))

    def gap(p):
        return float((torch.roll(p.prox(z, 0.3), (1, 1), (-2, -1)) - p.prox(rolled, 0.3)).norm())

    assert gap(two) < 1e-5 < gap(one)


def test_sum_prior_by_hand_and_its_terms():
    z = torch.tensor([[3.0, -3.0, 0.4]])
    prior = SumPrior(priors=(L1(weight=1.0), Box(low=0.0, high=1.5)), tol=1e-9, max_iter=5000)
    assert torch.allclose(prior.prox(z, 0.5), torch.tensor([[1.5, 0.0, 0.0]]), atol=1e-5)
    assert len(prior.terms((3,), torch.float32)) == 2
    assert float(prior.value(torch.tensor([[1.0, 0.5, 0.0]]))) == 1.5
    with pytest.raises(SpecError, match="at least one"):
        SumPrior(priors=())


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), "heavy", None])
def test_weights_are_checked(bad):
    for cls in (L1, L1Wavelet, Tikhonov):
        with pytest.raises(SpecError, match="weight"):
            cls(weight=bad)
