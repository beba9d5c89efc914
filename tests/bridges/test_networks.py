"""Published networks through deepinv's architectures: what we load computes what theirs does."""

import deepinv as dinv
import pytest
import torch
from safetensors.torch import save_file

import pnpkit as pk
from pnpkit.errors import CapabilityError, WeightsError

NETWORKS = {
    "gsdrunet": (lambda: dinv.models.GSDRUNet(pretrained=None), 0.1),
    "scunet": (lambda: dinv.models.SCUNet(pretrained=None), 0.1),
    "restormer": (lambda: dinv.models.Restormer(pretrained=None), 0.1),
    "swinir": (lambda: dinv.models.SwinIR(pretrained=None), 15 / 255),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_ours_is_theirs(name, tmp_path):
    """With random weights in their own names; images of a size that needs padding."""
    make, sigma = NETWORKS[name]
    torch.manual_seed(0)
    theirs = make().eval()
    path = str(tmp_path / f"{name}.safetensors")
    save_file({k: v.contiguous().clone() for k, v in theirs.state_dict().items()}, path)
    state = torch.random.get_rng_state()
    ours = pk.prior({"name": name, "weights": path})
    assert torch.equal(torch.random.get_rng_state(), state)
    x = torch.rand(1, 3, 24, 40, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(ours(x, sigma), theirs(x, sigma).detach(), atol=1e-6)
        assert not ours(x, sigma).requires_grad
    if name == "swinir":
        with pytest.raises(CapabilityError, match="outside the range"):
            ours(x, 0.2)


def test_weights_of_another_network(tmp_path):
    save_file({"a": torch.zeros(1)}, str(tmp_path / "a.safetensors"))
    with pytest.raises(WeightsError, match="another architecture than SCUNet"):
        pk.prior({"name": "scunet", "weights": str(tmp_path / "a.safetensors")})
