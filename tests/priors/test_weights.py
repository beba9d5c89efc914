"""Finding, verifying, converting and refusing weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pnpkit import registry
from pnpkit.errors import WeightsError
from pnpkit.priors import DnCNN, FFDNet, weights
from pnpkit.priors.networks.plain import plain_cnn


@pytest.fixture
def chain(tmp_path):
    """A small DnCNN checkpoint in KAIR's naming, pickled."""
    torch.manual_seed(0)
    net = plain_cnn((1, 8, 8, 1))
    torch.save({f"model.{k}": v for k, v in net.state_dict().items()}, tmp_path / "net.pth")
    return tmp_path / "net.pth", net


def test_pickles_are_refused_until_converted(chain, tmp_path):
    path, net = chain
    with pytest.raises(WeightsError, match="pnpkit weights convert"):
        DnCNN(weights=str(path))
    weights.convert(path, tmp_path / "net.safetensors")
    card = json.loads((tmp_path / "net.json").read_text())
    assert card["sha256"] == weights.file_digest(tmp_path / "net.safetensors")
    x = torch.rand(2, 1, 9, 7)
    denoised = DnCNN(weights=str(tmp_path / "net.safetensors"), rescale=False)(x, 25 / 255)
    assert torch.allclose(denoised, x - net(x), atol=1e-6)


def test_rescaling_reaches_other_levels_by_scaling_the_image(chain, tmp_path):
    path, net = chain
    weights.convert(path, tmp_path / "net.safetensors")
    x = torch.rand(2, 1, 9, 7)
    sigma = torch.tensor([25 / 255, 50 / 255])
    denoised = DnCNN(weights=str(tmp_path / "net.safetensors"))(x, sigma)
    assert torch.allclose(denoised[0], (x - net(x))[0], atol=1e-6)
    assert torch.allclose(denoised[1], (x - 2 * net(x / 2))[1], atol=1e-6)


def test_a_pickle_with_code_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"w": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="plain tensors"):
        weights.convert(tmp_path / "evil.pth", tmp_path / "evil.safetensors")
    assert not (tmp_path / "ran").exists()


def test_missing_truncated_and_wrong_files(tmp_path, monkeypatch):
    monkeypatch.delenv("PNPKIT_DATA", raising=False)
    monkeypatch.setenv("PNPKIT_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match="Looked at"):
        FFDNet(weights="nowhere.npz")
    save_file({"a": torch.zeros(100)}, str(tmp_path / "cut.safetensors"))
    whole = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-50])
    with pytest.raises(WeightsError, match="truncated"):
        weights.load("cut.safetensors")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(WeightsError, match="truncated"):
        weights.load("cut.npz")
    np.savez(tmp_path / "other.npz", w0=np.zeros((4, 5, 3, 3), np.float32), b0=np.zeros(4, np.float32))
    with pytest.raises(WeightsError, match="missing"):
        FFDNet(weights="other.npz")


def test_a_wrong_hash_is_refused(tmp_path):
    save_file({"a": torch.zeros(3)}, str(tmp_path / "a.safetensors"))
    good = weights.file_digest(tmp_path / "a.safetensors")
    assert weights.load(str(tmp_path / "a.safetensors"), good)["a"].shape == (3,)
    with pytest.raises(WeightsError, match="sha256"):
        weights.load(str(tmp_path / "a.safetensors"), "0" * 64)


def test_what_is_shipped_is_small_and_says_where_it_is_from():
    """At most 12 MB each, 60 MB together; data with terms, command, time and scores in each card."""
    cards = [registry.card(name) for name in registry.names("weights")]
    sizes = [Path(c["file"]).stat().st_size for c in cards]
    assert max(sizes) <= 12e6 and sum(sizes) <= 60e6
    for card in cards:
        assert card["about"] and card["terms"] and card["seconds"] > 60 and card["machine"]
        assert card["command"] == f"pnpkit train {card['name']} --steps {card['steps']}"
        assert all(v > 0 for v in card["validation"][0]["psnr"].values())
