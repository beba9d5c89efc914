"""Training of posterior denoisers: families of operators, the objective, and what is written."""

import json

import numpy as np
import pytest
import torch

from pnpkit.errors import SpecError, WeightsError
from pnpkit.likelihoods import Gaussian
from pnpkit.operators import MRI, Blur, Inpainting
from pnpkit.priors import Concatenated, DiffUnfolding, UNetDenoiser
from pnpkit.problem import Problem
from pnpkit.solvers import PosteriorSampler
from pnpkit.solvers.base import solve
from pnpkit.testing.core import run_checks
from pnpkit.training import loop
from pnpkit.training.families import Blurs, CartesianMRI, Denoising, Masks, SuperResolutions, chosen
from pnpkit.training.objectives import objective_of
from pnpkit.training.recipe import Recipe

from .test_loop import quiet, same_weights
from .toys import pictures, recipe

FAMILIES = [
    {"kind": "inpainting"},
    {"kind": "blur", "size": 7, "std": [0.5, 1.5]},
    {"kind": "super_resolution", "size": 5, "factors": [2, 4]},
]


@pytest.fixture
def folder(tmp_path):
    return pictures(tmp_path / "pictures")


def plan(folder, steps: int = 8, posterior: dict | None = None, **changes) -> Recipe:
    options = {"stages": 2, "families": FAMILIES} | (posterior or {})
    return recipe(folder, steps, **{"posterior": options, "validation.images": 2, **changes})


def complex_plan(folder, steps: int = 4, **posterior) -> Recipe:
    changes = {"image.complex": True, "image.phase": True, "image.channels": 2, "image.mean": 0.0}
    return plan(folder, steps, {"families": [{"kind": "mri", "coils": 3}], **posterior}, **changes)


# --- families ---


@pytest.mark.parametrize(
    "family", [Denoising(), Masks(), Blurs(size=9), SuperResolutions(size=7), CartesianMRI(coils=3)]
)
def test_a_family_draws_operators_that_differ_and_repeats_them(family):
    shape = (1, 16, 16)
    drawn = [family.draw(shape, torch.Generator().manual_seed(i)) for i in (0, 1, 0)]
    for name, value in drawn[0].items():
        assert np.array_equal(value, drawn[2][name])
    same = [d for d in drawn if all(d[n] == drawn[0][n] for n in family.grouped_by)]
    operator = family.operator(same, shape)
    x = torch.randn(len(same), 1, 16, 16, generator=torch.Generator().manual_seed(0)).to(operator.in_dtype)
    y = operator(x)
    alone = torch.cat([family.operator([d], shape)(x[i : i + 1]) for i, d in enumerate(same)])
    assert torch.allclose(y, alone, atol=1e-5)


def test_masks_keep_what_they_say_and_boxes_lie_inside():
    shares = [Masks(boxes=0).draw((1, 20, 20), torch.Generator().manual_seed(i))["mask"].mean() for i in range(50)]
    assert 0.09 < min(shares) < 0.25 and 0.75 < max(shares) < 0.91
    for i in range(20):
        missing = 1 - Masks(boxes=1).draw((1, 20, 24), torch.Generator().manual_seed(i))["mask"][0]
        rows, columns = missing.amax(1).sum(), missing.amax(0).sum()
        assert missing.sum() == rows * columns and 3 <= rows <= 9 and 3 <= columns <= 11


def test_accelerations_are_reached():
    for r in (2.0, 4.0, 8.0):
        kept = [
            CartesianMRI(accelerations=(r,), calib=0.03)
            .draw((1, 64, 64), torch.Generator().manual_seed(i))["mask"]
            .mean()
            for i in range(20)
        ]
        assert 0.8 / r < sum(kept) / 20 < 1.5 / r


def test_families_are_drawn_by_their_shares():
    families = [Denoising(share=1), Masks(share=3)]
    counts = [chosen(families, (i + 0.5) / 1000) for i in range(1000)]
    assert sum(counts) == 750


# --- the objective ---


def test_samples_do_not_depend_on_the_batch(folder):
    made = objective_of(plan(folder))
    pool = loop._pool(made.recipe, made.recipe.data, True)
    batch, one = made.draw(pool, 0, 6), made.draw(pool, 3, 1)
    (where,) = (batch.noisy == one.noisy).flatten(1).all(1).nonzero()
    i = int(where)
    assert torch.equal(batch.x[i], one.x[0]) and batch.sigma[i] == one.sigma[0] and batch.family[i] == one.family[0]
    ends = np.cumsum(batch.problem.sizes)
    part = int(np.searchsorted(ends, i, side="right"))
    y = batch.problem.problems[part].y[i - (ends[part] - batch.problem.sizes[part])]
    assert torch.allclose(y, one.problem.problems[0].y[0], atol=1e-6)


def test_recomputing_stages_changes_no_gradient(folder):
    slopes = []
    for recompute in (False, True):
        made = objective_of(plan(folder, posterior={"recompute": recompute}))
        model = made.build()
        pool, cpu = loop._pool(made.recipe, made.recipe.data, True), torch.device("cpu")
        value, _ = made.loss(model, made.bodies(model, cpu), made.draw(pool, 0, 4))
        value.backward()
        slopes.append([p.grad for p in model.parameters() if p.grad is not None])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*slopes, strict=True))


def test_memory_with_recomputation_hardly_grows_with_the_stages(folder):
    def kept(stages: int, recompute: bool) -> int:
        made = objective_of(plan(folder, posterior={"stages": stages, "recompute": recompute}))
        model, total, seen = made.build(), 0, set()

        def pack(t: torch.Tensor) -> torch.Tensor:
            nonlocal total
            if t.data_ptr() not in seen:
                seen.add(t.data_ptr())
                total += t.numel()
            return t

        pool = loop._pool(made.recipe, made.recipe.data, True)
        batch = made.draw(pool, 0, 4)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            made.loss(model, made.bodies(model, torch.device("cpu")), batch)
        return total

    assert kept(6, True) - kept(2, True) < 0.25 * (kept(6, False) - kept(2, False))


# --- runs ---


def test_it_learns_and_its_file_reconstructs(folder, tmp_path):
    made = plan(folder, 150, {"alone": 1.0}, **{"optimiser.rate": 0.004, "optimiser.batch": 8, "validation.every": 10})
    path = loop.train(made, tmp_path / "run", report=quiet)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    first, *_, last = [sum(line["psnr"].values()) / 3 for line in log if "psnr" in line]
    assert last > first + 1
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["prior"] == "diff_unfolding" and set(card["validation"][0]["psnr"]) == {f["kind"] for f in FAMILIES}
    prior = DiffUnfolding(weights=str(path))
    x = loop._pool(made, made.data, False).centres(3, 16)
    mask = (torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(1)) > 0.4).float()
    noise = Gaussian(sigma=0.02)
    operator = Inpainting(mask=mask)
    problem = Problem(operator, noise, noise.sample(operator(x), torch.Generator().manual_seed(0)))
    result = solve(problem, prior, PosteriorSampler(n_steps=1))
    assert result.calls["prior"] == 2 and result.calls["prox"] == 2
    before, after = (float((v - x).square().mean()) for v in (operator.initial(problem.y), result.x))
    assert after < before
    draws = solve(problem, prior, PosteriorSampler(n_steps=4), chains=3)
    assert draws.samples.shape == (3, 3, 1, 16, 16) and draws.calls["prior"] == 8


def test_a_run_goes_on_exactly(folder, tmp_path):
    whole = loop.train(plan(folder, 8), tmp_path / "whole", report=quiet)
    loop.train(plan(folder, 4, **{"optimiser.decay": 0.001}), tmp_path / "parts", report=quiet)
    parts = loop.train(plan(folder, 8), tmp_path / "parts", report=quiet)
    assert same_weights(whole, parts)


@pytest.mark.parametrize(
    "posterior", [{"data_step": "gradient"}, {"shared": False}, {"dual": False}, {"anchor": False}, {"recompute": True}]
)
def test_variants_train_and_load(folder, tmp_path, posterior):
    path = loop.train(plan(folder, 2, posterior), tmp_path / "run", report=quiet)
    assert DiffUnfolding(weights=str(path)).body.config["stages"] == 2


@pytest.mark.parametrize("complex", [False, True])
@pytest.mark.parametrize("network", ["unfolding", "concatenation"])
def test_trained_posterior_denoisers_conform(folder, tmp_path, network, complex):
    make = complex_plan(folder, 2, network=network) if complex else plan(folder, 2, {"network": network})
    path = loop.train(make, tmp_path / "run", report=quiet)
    prior = (DiffUnfolding if network == "unfolding" else Concatenated)(weights=str(path))
    failed = [o for o in run_checks(prior, "priors") if o.status == "failed"]
    assert not failed, failed
    assert prior.domain.dtype == (torch.complex64 if complex else torch.float32)


def test_mri_is_reconstructed_with_other_coils_than_in_training(folder, tmp_path):
    prior = DiffUnfolding(weights=str(loop.train(complex_plan(folder), tmp_path / "run", report=quiet)))
    operator = MRI(mask=torch.ones(1, 15, 13), maps=torch.ones(5, 15, 13, dtype=torch.complex64) / 5**0.5)
    problem = Problem(operator, Gaussian(sigma=0.01), operator(torch.ones(1, 1, 15, 13, dtype=torch.complex64)))
    assert solve(problem, prior, PosteriorSampler(n_steps=2)).x.shape == (1, 1, 15, 13)


def test_it_starts_from_a_denoiser_and_drops_blocks_that_it_does_not_have(folder, tmp_path):
    start = loop.train(recipe(folder, 2, **{"network.blocks": 2}), tmp_path / "denoiser", report=quiet)
    network = {"widths": [16, 32], "blocks": 2, "middle": 1}
    for kind in ("unfolding", "concatenation"):
        model = objective_of(plan(folder, 2, {"network": kind}, start=str(start), network=network)).build()
        unet, before = model.blocks[0].network, UNetDenoiser(weights=str(start)).body.network
        assert len(unet.middle.blocks) == 1
        assert torch.equal(unet.tail.weight, before.tail.weight)
        assert torch.equal(unet.head.weight[:, :1], before.head.weight) and not bool(unet.head.weight[:, 1:].any())


def test_files_of_other_networks_are_refused(folder, tmp_path):
    path = loop.train(recipe(folder, 2), tmp_path / "run", report=quiet)
    with pytest.raises(WeightsError, match="pnpkit-unfolding-1"):
        DiffUnfolding(weights=str(path))
    operator = Blur(kernel=torch.ones(1, 3, 3) / 9, shape=(1, 16, 16))
    assert operator.linear


def test_a_recipe_without_families_is_refused(folder):
    with pytest.raises(Exception, match="families"):
        plan(folder, 2, {"families": []})
    with pytest.raises((SpecError, ValueError), match="kind"):
        plan(folder, 2, {"families": [{"kind": "bluur"}]})
