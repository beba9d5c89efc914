"""FFDNet, DnCNN and DRUNet: published figures on real data, parity with the owning library."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pnpkit.errors import CapabilityError, ShapeError
from pnpkit.metrics.image import psnr
from pnpkit.priors import DnCNN, DRUNet, FFDNet, weights
from pnpkit.priors.ffdnet import _down, _up


def set12(data_dir, names=("01", "04", "06")) -> list[torch.Tensor]:
    from PIL import Image

    return [
        torch.from_numpy(np.array(Image.open(data_dir / "eval" / "set12" / f"{n}.png").convert("L"))).float()[
            None, None
        ]
        / 255
        for n in names
    ]


def test_sub_images_are_in_the_order_of_the_weights():
    x = torch.arange(8.0).reshape(1, 2, 2, 2)
    assert _down(x).flatten().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    y = torch.rand(2, 3, 8, 6)
    assert torch.equal(_up(_down(y)), y)


@pytest.mark.parametrize(("sigma", "expected"), [(15, 32.74), (25, 30.42), (50, 27.32)])
def test_ffdnet_reaches_its_published_figures_on_set12(data_dir, sigma, expected):
    """All twelve in benchmarks/denoisers.py; here three 256×256 images."""
    known = {15: 32.2, 25: 29.7, 50: 26.4}
    d = FFDNet(weights=str(data_dir / "weights" / "FFDNet_gray.npz"))
    scores = []
    for i, x in enumerate(set12(data_dir)):
        y = x + sigma / 255 * torch.randn(x.shape, generator=torch.Generator().manual_seed(i))
        with torch.no_grad():
            scores.append(float(psnr(d(y, sigma / 255), x, 1.0)))
    assert abs(np.mean(scores) - expected) < 1.2 and np.mean(scores) > known[sigma] - 0.6


def test_ffdnet_takes_odd_sizes_and_refuses_what_it_was_not_made_for(data_dir):
    d = FFDNet(weights=str(data_dir / "weights" / "FFDNet_color.npz"), channels=3)
    x = torch.rand(1, 3, 33, 31)
    assert d(x, 0.1).shape == x.shape
    with pytest.raises(CapabilityError, match="outside the range"):
        d(x, 0.5)
    with pytest.raises(ShapeError, match="images"):
        d(x[:, :1], 0.1)
    with pytest.raises(ShapeError, match="float64"):
        d(x.double(), 0.1)


def test_dncnn_and_the_nonexpansive_network(data_dir, tmp_path):
    x = set12(data_dir, ("01",))[0]
    for name, sigma, floor in (
        ("dncnn_25", 25, 29.5),
        ("provable_SimpleCNN_noise15", 15, 31.0),
        ("provable_RealSN_SimpleCNN_noise15", 15, 29.0),
    ):
        weights.convert(data_dir / "weights" / f"{name}.pth", tmp_path / f"{name}.safetensors")
        d = DnCNN(weights=str(tmp_path / f"{name}.safetensors"), trained_sigma=sigma / 255, rescale=False)
        y = x + sigma / 255 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        assert float(psnr(d(y, sigma / 255), x, 1.0)) > floor


def test_dncnn_at_other_levels_than_its_own(data_dir, tmp_path):
    """It helps at every level of its domain, a quarter to four times what it was trained for."""
    x = set12(data_dir, ("01",))[0]
    weights.convert(data_dir / "weights" / "dncnn_25.pth", tmp_path / "d.safetensors")
    d = DnCNN(weights=str(tmp_path / "d.safetensors"), trained_sigma=25 / 255)
    for sigma, gain in ((7, 0.9), (12, 3.0), (50, 12.0), (100, 14.0)):
        y = x + sigma / 255 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        assert float(psnr(d(y, sigma / 255), x, 1.0)) > float(psnr(y, x, 1.0)) + gain


def test_drunet_equals_deepinvs_own_forward(tmp_path):
    from deepinv.models import DRUNet as Theirs

    torch.manual_seed(0)
    theirs = Theirs(in_channels=1, out_channels=1, pretrained=None).eval()
    save_file(theirs.state_dict(), str(tmp_path / "drunet.safetensors"))
    ours = DRUNet(weights=str(tmp_path / "drunet.safetensors"), channels=1)
    x = torch.rand(1, 1, 40, 36)
    with torch.no_grad():
        assert torch.allclose(ours(x, 0.1), theirs(x, 0.1), atol=1e-6)
