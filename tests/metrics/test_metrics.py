"""Metrics against hand values and reference libraries."""

import math

import numpy as np
import pytest
import torch

from pnpkit.errors import DataError, ShapeError, SpecError, WeightsError
from pnpkit.metrics.aligned import psnr_aligned, ssim_aligned
from pnpkit.metrics.image import nmse, psnr, ssim
from pnpkit.metrics.perceptual import haarpsi, lpips


@pytest.fixture
def pair(rng):
    ref = torch.rand(2, 3, 40, 36, generator=rng)
    return (ref + 0.1 * torch.randn(ref.shape, generator=rng)).clamp(0, 1), ref


def test_psnr_by_hand():
    ref = torch.zeros(2, 1, 4, 4)
    x = ref.clone()
    x[0] += 0.1
    assert psnr(x, ref, 1.0)[0].item() == pytest.approx(20.0, abs=1e-4) and math.isinf(psnr(x, ref, 1.0)[1])
    assert psnr(x, ref, 255.0)[0].item() == pytest.approx(20 + 20 * math.log10(255), abs=1e-4)


def test_nmse_by_hand():
    ref = torch.full((1, 1, 2, 2), 2.0)
    x = ref.clone()
    x[..., 0, 0] = 3.0
    assert nmse(x, ref).item() == pytest.approx(1 / 16)
    mask = torch.zeros(1, 1, 2, 2, dtype=torch.bool)
    mask[..., 0, 0] = True
    assert nmse(x, ref, mask).item() == pytest.approx(1 / 4)
    assert nmse(1j * x, 1j * ref).item() == pytest.approx(1 / 16)


def test_ssim_equals_skimage(pair):
    from skimage.metrics import structural_similarity

    x, ref = pair
    ours = ssim(x, ref, 1.0)
    for i in range(2):
        theirs = structural_similarity(
            x[i].numpy(),
            ref[i].numpy(),
            channel_axis=0,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert abs(float(ours[i]) - theirs) < 1e-4
    assert torch.allclose(ssim(ref, ref, 1.0), torch.ones(2))


def test_a_shift_is_forgiven_up_to_six_pixels(pair):
    x, ref = pair
    moved = torch.stack([x[0].roll((2, -3), (-2, -1)), x[1].roll((-6, 6), (-2, -1))])
    inside = (..., slice(8, -8), slice(8, -8))
    for metric, plain in ((psnr_aligned, psnr), (ssim_aligned, ssim)):
        wanted = plain(x[inside], ref[inside], 1.0)
        assert torch.allclose(metric(x, ref, 1.0), wanted) and torch.allclose(metric(moved, ref, 1.0), wanted)
    assert psnr_aligned(x.roll(7, -1), ref, 1.0).max() < psnr_aligned(x, ref, 1.0).min() - 5
    with pytest.raises(ShapeError, match="more than 16 pixels"):
        psnr_aligned(x[..., :16, :], ref[..., :16, :], 1.0)


def test_haarpsi_orders_images(pair):
    x, ref = pair
    worse = (ref + 3 * (x - ref)).clamp(0, 1)
    same, near, far = haarpsi(ref, ref), haarpsi(x, ref), haarpsi(worse, ref)
    assert torch.allclose(same, torch.ones(2), atol=1e-4) and bool((near > far).all()) and near.shape == (2,)


def test_lpips_is_unavailable_without_its_backbone_and_says_where_to_put_it(pair, monkeypatch):
    monkeypatch.delenv("PNPKIT_WEIGHTS", raising=False)
    with pytest.raises(WeightsError, match="alexnet-owt"):
        lpips(*pair)


def test_lpips_uses_a_local_backbone(pair, tmp_path):
    """With a backbone file (random here: only the plumbing is tested) and no network."""
    from torchvision.models import alexnet

    torch.manual_seed(0)
    torch.save(alexnet(weights=None).state_dict(), tmp_path / "alexnet-owt-7be5be79.pth")
    x, ref = (torch.nn.functional.interpolate(t, 64) for t in pair)
    path = str(tmp_path / "alexnet-owt-7be5be79.pth")
    assert torch.allclose(lpips(ref, ref, weights=path), torch.zeros(2), atol=1e-6)
    assert bool((lpips(x, ref, weights=path) > 0).all())
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="not a torchvision checkpoint"):
        lpips(x, ref, weights=str(tmp_path / "other.pth"))


@pytest.mark.parametrize(
    "metric",
    [lambda x, r: psnr(x, r, 1.0), lambda x, r: ssim(x, r, 1.0), lambda x, r: psnr_aligned(x, r, 1.0), haarpsi],
)
def test_bad_images_are_refused(metric, pair):
    x, ref = pair
    with pytest.raises(ShapeError, match="one shape"):
        metric(x[:1], ref)
    with pytest.raises(ShapeError, match="real"):
        metric(x + 0j, ref + 0j)
    with pytest.raises(DataError, match="NaN"):
        metric(x * np.nan, ref)


def test_ranges_are_checked(pair):
    x, ref = pair
    with pytest.raises(SpecError, match="data_range"):
        psnr(x, ref, 0.0)
    with pytest.raises(DataError, match=r"\[0, 1\]"):
        haarpsi(255 * x, ref)
    with pytest.raises(ShapeError, match="11"):
        ssim(x[..., :5, :5], ref[..., :5, :5], 1.0)
    with pytest.raises(DataError, match="zero"):
        nmse(x, 0 * ref)
