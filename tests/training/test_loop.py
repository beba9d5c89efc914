"""The training loop: what it learns, what it writes, and that a kill changes nothing."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from pnpkit.errors import DataError, DivergedError, SpecError, WeightsError
from pnpkit.priors import UNetDenoiser
from pnpkit.training import denoising, loop
from pnpkit.training.recipe import Recipe, read_recipe

from .toys import pictures, recipe

DATA = os.environ.get("PNPKIT_DATA")


@pytest.fixture
def folder(tmp_path):
    return pictures(tmp_path / "pictures")


def quiet(_: str) -> None:
    pass


def same_weights(a, b) -> bool:
    from safetensors.torch import load_file

    a, b = load_file(a), load_file(b)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def curve(run) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


def test_it_learns_to_denoise(folder, tmp_path):
    plan = recipe(folder, 300, **{"optimiser.batch": 8, "optimiser.rate": 0.005, "optimiser.log_every": 50})
    weights = loop.train(plan, tmp_path / "run", report=quiet)
    losses = [v for _, v in curve(tmp_path / "run")]
    assert losses[-1] < 0.6 * losses[0]
    denoiser = UNetDenoiser(weights=str(weights))
    pool = loop._pool(plan, plan.data, plan.image.augment)
    x = pool.centres(6, 16)
    noisy = x + 0.2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    before, after = (float((v - x).square().mean()) for v in (noisy, denoiser(noisy, 0.2)))
    assert after < 0.4 * before


def test_what_a_run_writes(folder, tmp_path):
    plan = recipe(folder, 12)
    path = loop.train(plan, tmp_path / "run", report=quiet)
    card = json.loads(path.with_suffix(".json").read_text())
    assert (card["steps"], card["samples"], card["prior"]) == (12, 48, "unet")
    assert card["validation"][0]["psnr"].keys() == {"0.1", "0.5"} and card["recipe"]["name"] == "toy"
    assert [k for k, _ in curve(tmp_path / "run")] == [2, 4, 6, 8, 10, 12]
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
    # the file holds the running mean, in half precision
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    denoiser = UNetDenoiser(weights=str(path))
    for name, value in denoiser.body.network.state_dict().items():
        assert torch.equal(value, state["mean"][f"network.{name}"].half().float())


def test_a_run_cut_and_continued_is_the_run(folder, tmp_path, monkeypatch):
    """To the last bit, with a checkpoint after every look at the loss."""
    plan = recipe(folder, 12)
    whole = loop.train(plan, tmp_path / "whole", report=quiet, every_seconds=0)
    real, calls = loop.Trainer.advance, []

    def cut(self):
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return real(self)

    monkeypatch.setattr(loop.Trainer, "advance", cut)
    with pytest.raises(KeyboardInterrupt):
        loop.train(plan, tmp_path / "cut", report=quiet, every_seconds=0)
    monkeypatch.undo()
    again = loop.train(plan, tmp_path / "cut", report=quiet, every_seconds=0)
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")
    assert same_weights(whole, again)


def test_samples_drawn_by_other_processes_are_the_same(folder, tmp_path):
    """To the last bit, from a checkpoint too."""
    plain, helped = recipe(folder, 12), recipe(folder, 12).with_options(workers=2)
    alone = loop.train(plain, tmp_path / "alone", report=quiet)
    loop.train(helped.with_options(steps=6, decay=0.01), tmp_path / "helped", report=quiet)
    together = loop.train(helped, tmp_path / "helped", report=quiet)
    assert curve(tmp_path / "helped") == curve(tmp_path / "alone") and same_weights(alone, together)


@pytest.mark.parametrize(
    ("steps", "kills"), [(40, (6, 18)), pytest.param(400, range(20, 400, 23), marks=pytest.mark.full)]
)
def test_kill_9_at_any_time(steps, kills, folder, tmp_path):
    """The process is killed again and again; the loss curve and the weights are those of an uninterrupted run."""
    plan = recipe(folder, steps)
    whole = loop.train(plan, tmp_path / "whole", report=quiet)
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    script = (
        f"import sys, torch; torch.set_num_threads({torch.get_num_threads()})\n"
        "from pnpkit.training import loop; from pnpkit.training.recipe import Recipe\n"
        f"plan = Recipe.model_validate_json(open({str(tmp_path / 'plan.json')!r}).read())\n"
        f"loop.train(plan, {str(tmp_path / 'cut')!r}, every_seconds=0)\n"
    )
    log = tmp_path / "cut" / "log.jsonl"
    for wanted in (*kills, 10**9):
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL)
        while process.poll() is None and not (log.is_file() and log.read_text().count("loss") * 2 >= wanted):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")
    assert same_weights(tmp_path / "cut" / "toy.safetensors", whole)


def test_two_processes_make_the_steps_of_one(folder, tmp_path):
    """Samples are divided and gradients averaged: the same curve up to the order of sums."""
    plan = recipe(folder, 10)
    loop.train(plan, tmp_path / "one", report=quiet)
    import yaml

    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(json.loads(plan.model_dump_json())))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "pnpkit"]
    command += ["train", str(tmp_path / "plan.yaml"), "--out", str(tmp_path / "two"), "--quiet", "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    for (k, a), (j, b) in zip(curve(tmp_path / "one"), curve(tmp_path / "two"), strict=True):
        assert k == j and a == pytest.approx(b, rel=1e-3)
    a, b = (UNetDenoiser(weights=str(tmp_path / n / "toy.safetensors")) for n in ("one", "two"))
    x = torch.rand(1, 1, 16, 16)
    assert torch.allclose(a(x, 0.3), b(x, 0.3), atol=2e-3)


def test_a_longer_run_goes_on_from_before_the_rate_fell(folder, tmp_path):
    plan = recipe(folder, 20, **{"optimiser.decay": 0.5})
    loop.train(plan, tmp_path / "run", report=quiet, every_seconds=0)
    told = []
    loop.train(plan.with_options(steps=30), tmp_path / "run", report=told.append, every_seconds=0)
    assert "going on after step 10 of 30" in told
    direct = loop.train(recipe(folder, 30, **{"optimiser.decay": 0.5}), tmp_path / "direct", report=quiet)
    assert same_weights(tmp_path / "run" / "toy.safetensors", direct)


def test_a_run_starts_from_weights_of_other_channels(folder, tmp_path):
    """A colour network begins as the grey one on the mean of the channels, given back in each."""
    grey = loop.train(recipe(folder, 6), tmp_path / "grey", report=quiet)
    colour = recipe(folder, 6, start=str(grey), **{"image.channels": 3})
    x = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    noisy, level = x + 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1)), torch.full((2,), 0.3)
    expected = UNetDenoiser(weights=str(grey)).body(noisy, level)
    begun = denoising.DenoisingScoreMatching(colour).build()
    assert torch.allclose(begun(noisy.repeat(1, 3, 1, 1), level), expected.repeat(1, 3, 1, 1), atol=1e-5)
    # the skip path is each channel's own, what the network adds is the mean's
    mixed = noisy + torch.tensor([-0.2, 0.1, 0.1]).reshape(3, 1, 1)
    skip = begun.scales(level, mixed)[0]
    assert torch.allclose(begun(mixed, level) - skip * mixed, expected - skip * noisy, atol=1e-5)
    weights = loop.train(colour, tmp_path / "colour", report=quiet)
    back = denoising.DenoisingScoreMatching(recipe(folder, start=str(weights))).build()
    assert back.network.config["channels"] == 1
    assert json.loads(weights.with_suffix(".json").read_text())["recipe"]["start"] == str(grey)


def test_a_run_cannot_start_from_another_architecture(folder, tmp_path):
    weights = loop.train(recipe(folder, 2), tmp_path / "run", report=quiet)
    wider = recipe(folder, 2, start=str(weights), **{"network.widths": (16, 24)})
    with pytest.raises(WeightsError, match="another architecture than UNet: shape"):
        loop.train(wider, tmp_path / "wider", report=quiet)


def test_rate_rises_stays_and_falls():
    options = recipe_options(steps=100, warmup=10, decay=0.2, rate=1.0)
    values = [loop.rate_at(options, k) for k in (0, 4, 9, 50, 80, 90, 99)]
    assert values == pytest.approx([0.1, 0.5, 1, 1, 1, 0.5, 0.05])


def recipe_options(**options):
    return Recipe(
        name="x", data=[{"kind": "kernels"}], optimiser=options, validation={"data": [{"kind": "kernels"}]}
    ).optimiser


def test_the_loss_is_edm_s_weighted_error(folder):
    """‖D − x‖²/c_out² per sample, whatever the network, and 1 for F = 0 with a target of unit variance."""
    plan = recipe(folder)
    model = denoising.DenoisingScoreMatching(plan).build().double()
    torch.nn.init.normal_(model.network.tail.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    pool = loop._pool(plan, plan.data, plan.image.augment)
    x, sigma, noise = (t.double() for t in denoising.draw(pool, plan.noise, 0, 0, 5))
    _, error = denoising.loss(model, model.network, x, sigma, noise)
    clean = model(x + sigma.reshape(-1, 1, 1, 1) * noise, sigma)
    out = sigma * model.std / (sigma**2 + model.std**2).sqrt()
    assert torch.allclose(error, ((clean - x).square().flatten(1).mean(1) / out**2), rtol=1e-6)


@pytest.mark.skipif(DATA is None, reason="PNPKIT_DATA is not set")
@pytest.mark.parametrize(
    "name", ["photos_gray", "photos", "blur_kernels", "brain_mri", "digits", "chest_ct", "tiny_photos"]
)
def test_shipped_recipes_run(name, tmp_path):
    """The command of the card, for two steps and without compilation."""
    plan = read_recipe(name).with_options(steps=2, batch=2, compile=False)
    plan = plan.model_copy(update={"validation": plan.validation.model_copy(update={"images": 1, "size": 32})})
    weights = loop.train(plan, tmp_path, report=quiet)
    denoiser = UNetDenoiser(weights=str(weights))
    x = torch.rand(1, *denoiser.example_shape).to(denoiser.domain.dtype)
    assert denoiser(x, 0.1).shape == x.shape
    assert weights.stat().st_size < 12.5e6


# --- what goes wrong ---


def test_a_loss_that_is_not_finite_stops_with_the_last_checkpoint_kept(folder, tmp_path, monkeypatch):
    plan = recipe(folder, 12)
    real = denoising.loss

    def poisoned(model, body, x, sigma, noise):
        return real(model, body, x * (float("nan") if counts.append(1) or len(counts) > 7 else 1), sigma, noise)

    counts: list[int] = []
    monkeypatch.setattr(denoising, "loss", poisoned)
    with pytest.raises(DivergedError, match=r"loss is nan at step 8.*checkpoint\.pt.*lower optimiser\.rate"):
        loop.train(plan, tmp_path / "run", report=quiet, every_seconds=0)
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 6 and all(bool(torch.isfinite(v).all()) for v in state["model"].values())


def test_out_of_memory_says_what_to_lower(folder, tmp_path, monkeypatch):
    def full(self):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(loop.Trainer, "advance", full)
    with pytest.raises(loop.OutOfMemory, match=r"batch of 4 crops of 16.*lower optimiser\.batch"):
        loop.train(recipe(folder), tmp_path / "run", report=quiet)


def test_a_folder_of_another_recipe_and_a_damaged_checkpoint(folder, tmp_path):
    plan = recipe(folder, 4)
    loop.train(plan, tmp_path / "run", report=quiet)
    with pytest.raises(SpecError, match=r"another recipe \(different: seed\)"):
        loop.train(recipe(folder, 4, seed=1), tmp_path / "run", report=quiet)
    file = tmp_path / "run" / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"checkpoint\.pt is damaged.*Delete it"):
        loop.train(plan, tmp_path / "run", report=quiet)


def test_a_batch_that_does_not_divide(folder, tmp_path):
    from pnpkit.training.processes import Processes

    assert Processes(1, 2).share(8) == (4, 4)
    with pytest.raises(SpecError, match="does not divide among 3"):
        Processes(0, 3).share(8)


def test_weights_that_are_wrong(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    path = loop.train(recipe(folder, 2), tmp_path / "run", report=quiet)
    half = tmp_path / "half.safetensors"
    half.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(WeightsError, match="truncated"):
        UNetDenoiser(weights=str(half))
    save_file(load_file(path), tmp_path / "bare.safetensors")
    with pytest.raises(WeightsError, match="not written by `pnpkit train`"):
        UNetDenoiser(weights=str(tmp_path / "bare.safetensors"))
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        told = file.metadata()
    tensors = {k: v for k, v in load_file(path).items() if "tail" not in k}
    save_file(tensors, tmp_path / "less.safetensors", metadata=told)
    with pytest.raises(WeightsError, match=r"missing: tail\.bias"):
        UNetDenoiser(weights=str(tmp_path / "less.safetensors"))
    torch.save({"a": torch.zeros(2)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="safetensors"):
        UNetDenoiser(weights=str(tmp_path / "w.pth"))


def test_shipped_weights_that_were_changed_are_refused(monkeypatch):
    from pnpkit import registry

    card = registry.card("digits")
    monkeypatch.setattr(registry, "card", lambda name: {**card, "sha256": "0" * 64})
    with pytest.raises(WeightsError, match="expected 0000"):
        UNetDenoiser(weights="digits")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: a\nsteps: 3\n", "steps: unknown field"),
        ("optimiser: {steps: 3, momentum: 1}\n", r"optimiser\.momentum: unknown field"),
        ("optimiser: {steps: 3, rat: 1}\n", "Did you mean 'rate'"),
        ("optimiser: {steps: 0}\n", r"optimiser\.steps: .*greater than 0"),
        ("data: []\n", "data: .*at least 1"),
        ("data: [{kind: movies, path: a}]\n", "movies"),
        ("[1, 2]", "must hold a mapping"),
        ("optimiser: {steps: 3, rate: 1e-3, clip: -1e+0}\n", r"optimiser\.clip: .*greater than 0, given -1\.0"),
        ("a: [", "not valid YAML"),
    ],
)
def test_recipes_that_are_wrong(text, told, tmp_path):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(SpecError, match=told):
        read_recipe(tmp_path / "r.yaml")


def test_a_recipe_that_is_not_there():
    with pytest.raises(DataError, match="Did you mean 'photos'"):
        read_recipe("photoss")


def test_written_weights_can_keep_a_share_of_the_start(folder, tmp_path):
    from safetensors.torch import load_file

    start = loop.train(recipe(folder, 2), tmp_path / "start", report=quiet)
    told: list[str] = []
    files = [start]
    for share in (0.0, 0.25):
        plan = recipe(folder, 6, start=str(start), seed=5, **{"optimiser.keep_start": share})
        files.append(loop.train(plan, tmp_path / f"run {share}", report=told.append))
    assert sum("with the start's share" in line for line in told) == 1
    first, moved, mixed = (load_file(p)["tail.weight"].float() for p in files)
    assert torch.allclose(mixed, 0.25 * first + 0.75 * moved, atol=1e-3) and not torch.allclose(mixed, moved, atol=1e-4)
