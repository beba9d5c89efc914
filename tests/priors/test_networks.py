"""Our U-Net, and networks of other libraries on checkpoints that those libraries saved."""

import pytest
import torch
from safetensors.torch import save_file

from pnpkit.errors import CapabilityError, SpecError, WeightsError
from pnpkit.priors import ADM, DiffusersUNet, UNetDenoiser
from pnpkit.priors.networks.edm import Preconditioned
from pnpkit.priors.networks.shapes import extended
from pnpkit.priors.networks.unet import UNet, count
from pnpkit.priors.weights import convert


def awake(network: UNet) -> UNet:
    """With its zero weights replaced, so that everything matters."""
    rng = torch.Generator().manual_seed(0)
    for p in network.parameters():
        if p.ndim > 1 and not bool(p.any()):
            torch.nn.init.normal_(p, std=0.05, generator=rng)
    return network


@pytest.mark.parametrize(
    ("widths", "millions"), [((32, 64, 96), 1), ((48, 96, 176, 208), 6), ((64, 128, 256, 512, 512), 50)]
)
def test_sizes_from_one_to_fifty_million(widths, millions):
    network = UNet(1, widths, blocks=2)
    assert count(network) == sum(p.numel() for p in network.parameters())
    assert 0.6 * millions < count(network) / 1e6 < 1.2 * millions


def test_any_multiple_and_every_input_matters():
    network = awake(UNet(2, (8, 12, 16), 1, conditions=1, attention=True, classes=3))
    x = torch.rand(2, 3, 8, 12)
    c, label = torch.tensor([-1.0, 0.5]), torch.tensor([0, 2])
    base = network(x, network.embedding(c, label))
    assert base.shape == (2, 2, 8, 12) and network.multiple == 4
    corner = torch.nn.functional.pad(torch.ones(2, 3, 1, 1), (0, 11, 0, 7))
    other = {
        "noise level": network(x, network.embedding(c + 0.3, label)),
        "label": network(x, network.embedding(c, (label + 1) % 3)),
        "no label": network(x, network.embedding(c)),
        "condition": network(torch.cat([x[:, :2], 1 - x[:, 2:]], 1), network.embedding(c, label)),
        "far pixel": network(x + corner, network.embedding(c, label)),
    }  # fmt: skip
    for name, out in other.items():
        assert not torch.allclose(out, base, atol=1e-5), name
    far = (other["far pixel"] - base)[..., -1, -1].abs().max()
    assert float(far) > 0  # attention sees the whole image


def test_a_new_network_returns_the_preconditioner_s_skip():
    """F = 0 at the start: D = m + (x − m)·d²/(s² + d²), the Wiener estimate of white images."""
    model = Preconditioned(UNet(1, (8, 8), 1), mean=0.4, std=0.3)
    x, s = torch.rand(3, 1, 8, 8), torch.tensor([0.1, 0.3, 3.0])
    gain = (0.09 / (0.09 + s**2)).reshape(-1, 1, 1, 1)
    network_is_zero = torch.nn.init.zeros_(model.network.tail.bias) is not None
    assert network_is_zero and torch.allclose(model(x, s), 0.4 + gain * (x - 0.4), atol=1e-6)


def test_wrong_networks():
    with pytest.raises(SpecError, match="must be ≥ 1"):
        UNet(1, (), 1)
    with pytest.raises(SpecError, match="divisible by 4"):
        UNet(1, (8, 10), 1, attention=True)


@pytest.mark.parametrize("size", [(1, 1), (3, 9), (8, 8), (17, 30)])
def test_extension_reflects_and_fits(size):
    x = torch.rand(1, 1, *size)
    y = extended(x, 8)
    assert y.shape[-2] % 8 == 0 == y.shape[-1] % 8 and torch.equal(y[..., : size[0], : size[1]], x)


def test_bfloat16_and_compiled_networks_agree_with_float32():
    x = torch.rand(1, 1, 32, 40)
    exact = UNetDenoiser(weights="digits")(x, 0.2)
    assert float((UNetDenoiser(weights="digits", arithmetic="bfloat16")(x, 0.2) - exact).abs().max()) < 0.05
    compiled = UNetDenoiser(weights="digits", compiled=True)
    assert torch.allclose(compiled(x, 0.2), exact, atol=1e-4)


# --- other libraries ---


@pytest.fixture(scope="module")
def adm(tmp_path_factory):
    """The owning library's network with random weights, saved by torch as its authors did, converted by us."""
    from deepinv.models import DiffUNet

    torch.manual_seed(0)
    theirs = DiffUNet(in_channels=3, out_channels=6, pretrained=None).eval()
    for p in theirs.out.parameters():
        torch.nn.init.normal_(p, std=0.02)
    state = {k: v for k, v in theirs.state_dict().items() if "cumprod" not in k}
    folder = tmp_path_factory.mktemp("adm")
    torch.save(state, folder / "adm.pt")
    convert(folder / "adm.pt", folder / "adm.safetensors")
    return theirs, ADM(weights=str(folder / "adm.safetensors"))


def test_adm_is_the_authors_network_with_range_and_sigma_converted(adm):
    theirs, ours = adm
    x, t = torch.rand(1, 3, 32, 32), torch.tensor([250.0])
    assert ours.domain.sigma_range == pytest.approx((0.0050002, 78.69), rel=1e-3)
    path = ours.body.denoiser.path
    sigma = path.sigma(t.double())
    c = (1 + sigma**2).rsqrt().float()
    with torch.no_grad():
        eps = theirs.forward_diffusion(c * (2 * x - 1), t)[:, :3]
        wanted = ((2 * x - 1 - sigma.float() * eps) + 1) / 2
        assert torch.allclose(ours(x, (sigma / 2).float()), wanted, atol=1e-4)
        assert ours(torch.rand(1, 3, 40, 33), 0.1).shape == (1, 3, 40, 33)


def test_adm_of_another_size_is_refused(adm, tmp_path):
    from safetensors.torch import load_file

    _, ours = adm
    state = {k: v for k, v in load_file(ours.weights).items() if "input_blocks.1." not in k}
    save_file(state, str(tmp_path / "less.safetensors"))
    with pytest.raises(WeightsError, match=r"missing: input_blocks\.1\."):
        ADM(weights=str(tmp_path / "less.safetensors"))


def diffusers_folder(folder, prediction: str, schedule: str, pipeline: bool):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(1)
    network = diffusers.UNet2DModel(
        sample_size=16, in_channels=1, out_channels=1, block_out_channels=(16, 32), layers_per_block=1,
        norm_num_groups=8, down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    scheduler = diffusers.DDPMScheduler(beta_schedule=schedule, prediction_type=prediction)
    if pipeline:
        diffusers.DDPMPipeline(network, scheduler).save_pretrained(folder)
    else:
        network.save_pretrained(folder)
        scheduler.save_pretrained(folder)
    return network.eval(), scheduler


@pytest.mark.parametrize(
    ("prediction", "schedule", "pipeline"),
    [("epsilon", "linear", True), ("v_prediction", "scaled_linear", False), ("sample", "squaredcos_cap_v2", False)],
)
def test_diffusers_networks_give_what_their_scheduler_calls_the_original_sample(
    prediction, schedule, pipeline, tmp_path
):
    network, scheduler = diffusers_folder(tmp_path / "net", prediction, schedule, pipeline)
    ours = DiffusersUNet(folder=str(tmp_path / "net"))
    x, t = torch.rand(2, 1, 16, 16), 300
    alpha_bar = float(scheduler.alphas_cumprod[t])
    sigma = ((1 - alpha_bar) / alpha_bar) ** 0.5
    with torch.no_grad():
        z = alpha_bar**0.5 * (2 * x - 1)
        out = network(z, t).sample
        scheduler.config.clip_sample = False
        theirs = scheduler.step(out, t, z, generator=torch.Generator()).pred_original_sample
        assert torch.allclose(ours(x, sigma / 2), (theirs + 1) / 2, atol=2e-3)
    assert ours(torch.rand(1, 1, 18, 15), 0.3).shape == (1, 1, 18, 15)


def test_diffusers_folders_that_are_wrong(tmp_path):
    with pytest.raises(WeightsError, match=r"holds no config\.json"):
        DiffusersUNet(folder=str(tmp_path))
    diffusers_folder(tmp_path / "net", "epsilon", "linear", False)
    file = tmp_path / "net" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="cannot be loaded"):
        DiffusersUNet(folder=str(tmp_path / "net"))
    from pnpkit.priors.diffusers_unet import vp_path

    with pytest.raises(CapabilityError, match="sigmoid"):
        vp_path({"beta_schedule": "sigmoid"})
