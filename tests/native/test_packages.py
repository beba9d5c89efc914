"""`pnpkit native export MODEL`: packages of weights, packages of compiled code, and what they refuse."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pnpkit import native, registry
from pnpkit.errors import CapabilityError, RegistryError, SpecError, WeightsError
from pnpkit.native_package import export, read_dtype, read_size
from pnpkit.native_package.compiled import compile_network
from pnpkit.priors.base import Denoiser, Domain
from pnpkit.priors.networks.unet import UNet
from pnpkit.priors.packaged import Packaged
from pnpkit.priors.unet import FORMAT, UNetDenoiser
from pnpkit.priors.unfolding.trained import DiffUnfolding
from pnpkit.solvers.base import solve
from pnpkit.solvers.hqs import HQS
from pnpkit.solvers.posterior_sampler import PosteriorSampler
from pnpkit.testing import assert_conforms
from pnpkit.training.run import save_weights

from .problems import assert_near, draw, needs_native, photo_problem
from .test_program import infer

pytestmark = needs_native
OPERATOR = {"name": "blur", "kernel": {"make": "gaussian_kernel", "size": 9, "std": 1.5}, "shape": [1, 40, 52]}
CONFIG = {"operator": OPERATOR, "noise": {"name": "gaussian", "sigma": 0.03}, "seed": 7}


@pytest.fixture(scope="module")
def attention(tmp_path_factory) -> str:
    """Weights of a network that the C++ backend does not have."""
    torch.manual_seed(0)
    network = UNet(widths=(8, 16), blocks=1, attention=True)
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.13)
    told = network.config | {"mean": 0.4, "std": 0.3, "complex": False, "sigma_range": [0.01, 1.0]}
    path = tmp_path_factory.mktemp("weights") / "attention.safetensors"
    save_weights(path, FORMAT, told, network.state_dict())
    return str(path)


@pytest.fixture(scope="module")
def compiled(attention, tmp_path_factory) -> Path:
    """Its network compiled for any size and for one, and a config beside it."""
    folder = tmp_path_factory.mktemp("compiled")
    config = CONFIG | {"prior": {"name": "unet", "weights": attention}, "solver": {"name": "hqs", "n_steps": 3}}
    (folder / "c.yaml").write_text(json.dumps(config))
    export(str(folder / "c.yaml"), folder / "p", "fp32", [None, (40, 52)])
    np.save(folder / "p" / "y.npy", photo_problem().y.numpy())
    return folder / "p"


@pytest.fixture
def copy(compiled, tmp_path):
    """A package of the same files, to be changed."""

    def make(**changes) -> Path:
        for file in compiled.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        about = json.loads((compiled / "package.json").read_text())
        about["network"] |= changes
        (tmp_path / "package.json").write_text(json.dumps(about))
        return tmp_path

    return make


@pytest.mark.parametrize("size", [(40, 52), (16, 24), (33, 51)])
def test_compiled_networks_are_pythons(compiled, attention, size):
    x = draw(3, 1, *size) * 0.2 + 0.5
    sigma = torch.tensor([0.02, 0.2, 0.9])
    assert_near(Packaged(path=str(compiled))(x, sigma), UNetDenoiser(weights=attention)(x, sigma), 1e-5)


def test_compiled_bfloat16_is_near(attention, tmp_path):
    export(attention, tmp_path, "bf16", [(40, 52)])
    x = draw(2, 1, 40, 52) * 0.2 + 0.5
    half, exact = Packaged(path=str(tmp_path))(x, 0.2), UNetDenoiser(weights=attention)(x, 0.2)
    assert 1e-6 < float((half - exact).square().mean().sqrt()) < 1e-2
    with pytest.raises(CapabilityError, match=r"compiled for images of \(40, 52\) pixels.*--shape 16x20"):
        Packaged(path=str(tmp_path))(x[..., :16, :20], 0.2)


def test_program_runs_compiled_networks(compiled, attention, tmp_path):
    done = infer(compiled / "config.json", compiled / "y.npy", tmp_path / "x.npy")
    assert done.returncode == 0, done.stderr
    wanted = solve(photo_problem(), UNetDenoiser(weights=attention), HQS(n_steps=3), seed=7).x
    assert np.abs(np.load(tmp_path / "x.npy") - wanted.numpy()).max() < 1e-4
    other = infer(compiled / "config.json", compiled / "y.npy", tmp_path / "x.npy", "--dtype", "bf16")
    assert other.returncode == 3 and "compiled for fp32" in other.stderr and other.stderr.count("\n") == 1


class Example(Packaged):
    place = ""

    @classmethod
    def example(cls):
        return cls(path=cls.place, backend="auto")


def test_conformance(compiled):
    Example.place = str(compiled)
    assert_conforms(Example)


def test_images_that_are_too_small_are_refused(compiled):
    with pytest.raises(CapabilityError, match=r"8 and more, \(40, 52\) pixels, these are \(5, 9\)"):
        Packaged(path=str(compiled))(torch.rand(1, 1, 5, 9), 0.1)


def test_packages_of_weights_are_read_by_the_program(pnpkit, tmp_path):
    options = ["--dtype", "bf16", "--shape", "40x52"]
    code, out, _ = pnpkit("native", "export", "unfold_photos", str(tmp_path / "p"), *options)
    assert code == 0 and "unfold_photos.safetensors" in out and "package.json" in out and "Nothing was compiled" in out
    config = CONFIG | {"operator": OPERATOR | {"kernel": {"file": "k.npy"}}, "solver": {"name": "posterior_sampler"}}
    np.save(tmp_path / "k.npy", registry.make("gaussian_kernel", size=9, std=1.5).numpy())
    (tmp_path / "c.json").write_text(json.dumps(config))
    problem = photo_problem()
    np.save(tmp_path / "y.npy", problem.y.numpy())
    words = ["--prior", str(tmp_path / "p"), "--steps", "1"]
    found = {}
    for dtype in ([], ["--dtype", "bf16"], ["--dtype", "fp32"]):
        done = infer(tmp_path / "c.json", tmp_path / "y.npy", tmp_path / "x.npy", *words, *dtype)
        assert done.returncode == 0, done.stderr
        found["".join(dtype)] = np.load(tmp_path / "x.npy")
    assert np.array_equal(found[""], found["--dtypebf16"])  # what it was exported for
    wanted = solve(problem, DiffUnfolding(weights="unfold_photos"), PosteriorSampler(n_steps=1), seed=7).x.numpy()
    assert np.abs(found["--dtypefp32"] - wanted).max() < 1e-4 < np.abs(found[""] - wanted).max()


def test_code_for_another_torch_or_processor_is_refused_or_left_to_python(copy, attention, caplog):
    for changes, says in (
        ({"torch": "2.1.0"}, "for torch 2.1.0, this is"),
        ({"cpu": ["avx1024"]}, "a processor with .avx1024., which this one lacks"),
    ):
        folder = copy(**changes)
        with pytest.raises(CapabilityError, match=says):
            Packaged(path=str(folder))
        with caplog.at_level("INFO", logger="pnpkit"):
            prior = Packaged(path=str(folder), backend="auto")
        assert "runs in Python" in caplog.text
        x = draw(1, 1, 16, 16)
        assert torch.equal(prior(x, 0.1), UNetDenoiser(weights=attention)(x, 0.1))
        done = infer(folder / "config.json", folder / "y.npy", folder / "x.npy")
        assert done.returncode == 3 and done.stderr.count("\n") == 1, done.stderr


def test_changed_and_damaged_packages_are_refused(copy, compiled):
    folder = copy()
    code = folder / "network_any.pt2"
    code.write_bytes(code.read_bytes()[:-1] + b"?")
    with pytest.raises(SpecError, match=r"network_any\.pt2 is not the file that was exported"):
        Packaged(path=str(folder))
    code.unlink()
    with pytest.raises(SpecError, match="is not a file"):
        Packaged(path=str(folder))
    (folder / "package.json").write_text('{"format": "pnpkit-package-1"}')
    with pytest.raises(WeightsError, match="damaged"):
        Packaged(path=str(folder))
    with pytest.raises(SpecError, match="names no network"):
        native.load().Network(str(folder))
    with pytest.raises(WeightsError, match=r"package\.json are not here"):
        Packaged(path=str(folder / "nowhere"))


def test_packages_of_weights_are_not_this_prior(tmp_path):
    export("photos_gray", tmp_path)
    with pytest.raises(WeightsError, match=r"holds the weights of a unet.*photos_gray\.safetensors"):
        Packaged(path=str(tmp_path))


@pytest.mark.parametrize(
    ("model", "error", "says"),
    [
        ('{"name": "tv", "weight": 1.0}', CapabilityError, "denoisers, and Diff-Unfolding without attention; tv"),
        ("{name", SpecError, "is not JSON"),
        ("no_such_prior", RegistryError, "no_such_prior"),
    ],
)
def test_what_cannot_be_exported(tmp_path, model, error, says):
    with pytest.raises(error, match=says):
        export(model, tmp_path)


class Small(Denoiser):
    """A denoiser of a form that the C++ backend does not have."""

    def __init__(self, form: str, low: float = 0.01):
        super().__init__()
        self.form = form
        self.domain = Domain((1, None, None), torch.float32, (low, 1.0), (-1.0, 1.0))

    def _denoise(self, x, sigma):
        if self.form == "looks at values" and bool((x > 0).all()):
            return x
        return x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)


def test_networks_that_cannot_be_compiled_are_refused(tmp_path, monkeypatch):
    with pytest.raises(CapabilityError, match=r"images of any size; give --shape HxW\. torch\.export does not take"):
        compile_network(Small("looks at values"), tmp_path, "fp32", [None])
    with pytest.raises(CapabilityError, match=r"torch\.export does not take the network"):
        compile_network(Small("looks at values"), tmp_path, "fp32", [(16, 16)])
    with pytest.raises(CapabilityError, match="no finite range of noise levels"):
        compile_network(Small("plain", low=0.0), tmp_path, "fp32", [None])
    monkeypatch.setattr(torch._inductor, "aoti_load_package", lambda file: lambda x, sigma: 1.1 * x)
    with pytest.raises(CapabilityError, match=r"differs from Python by 0\.1.*not used"):
        compile_network(Small("plain"), tmp_path, "fp32", [(16, 16)])


def test_other_value_ranges_and_networks_inside_of_others(attention, tmp_path):
    """The inner network's own arithmetic does not undo the package's; the images' range is kept whole."""
    inner = {"name": "unet", "weights": attention}
    spec = {"name": "rescale", "denoiser": inner, "inner": [0.0, 1.0], "outer": [-1.0, 1.0]}
    export(json.dumps(spec), tmp_path, "bf16")
    packaged, exact, x = Packaged(path=str(tmp_path)), registry.prior(spec), draw(2, 1, 20, 32) * 0.3
    assert packaged.domain.value_range == exact.domain.value_range == (-1.0, 1.0)
    assert 1e-5 < float((packaged(x, 0.3) - exact(x, 0.3)).abs().max()) < 0.03


def test_a_network_that_would_run_in_c_plus_plus_is_traced_in_python(tmp_path):
    inner = {"name": "unet", "weights": "digits", "backend": "auto"}
    spec = {"name": "rescale", "denoiser": inner, "inner": [0.0, 1.0], "outer": [0.0, 255.0]}
    export(json.dumps(spec), tmp_path, sizes=[(16, 16)])
    exact, x = registry.prior(spec), 255 * draw(1, 1, 16, 16)
    assert_near(Packaged(path=str(tmp_path))(x, 20.0), exact(x, 20.0), 1e-4)


def test_options_of_the_command_line():
    assert read_size("dynamic") is None and read_size("256x320") == (256, 320)
    assert read_dtype("bf16") == "bf16"
    for text in ("256", "0x5", "axb", "-1x2"):
        with pytest.raises(SpecError, match="HEIGHTxWIDTH"):
            read_size(text)
    with pytest.raises(SpecError, match="fp32 or bf16"):
        read_dtype("int8")
