"""Mask makers: how many entries are kept, where, and that a seed means one mask."""

import numpy as np
import pytest
import torch

import pnpkit as pk
from pnpkit.errors import SpecError
from pnpkit.operators.makers.masks import box_mask, line_mask, poisson_disc_mask, random_mask

SEEDED = {
    "random_mask": {"shape": (1, 40, 30), "fraction": 0.3},
    "line_mask": {"shape": (1, 40, 30), "acceleration": 2.0, "calib": 4},
    "poisson_disc_mask": {"shape": (1, 40, 30), "acceleration": 3.0, "calib": 6},
}


@pytest.mark.parametrize("name", SEEDED)
def test_a_seed_means_one_mask_and_no_global_generator_moves(name):
    np.random.seed(3)
    torch.manual_seed(3)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    masks = [pk.make(name, **SEEDED[name], seed=s) for s in (5, 5, 6)]
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])
    assert (np.random.get_state()[1] == before[0]).all() and torch.equal(torch.get_rng_state(), before[1])
    for mask in masks:
        assert mask.shape == SEEDED[name]["shape"] and mask.dtype == torch.float32
        assert set(mask.unique().tolist()) == {0.0, 1.0}
        mask[0, 0, 0] = 2  # no shared memory between entries
        assert int((mask == 2).sum()) == 1


@pytest.mark.parametrize(
    ("shape", "fraction", "kept"), [((1, 10, 10), 0.37, 37), ((3, 4, 5), 0.5, 30), ((7,), 0.01, 1)]
)
def test_random_mask_keeps_an_exact_number(shape, fraction, kept):
    assert int(random_mask(shape, fraction).sum()) == kept


def test_random_mask_is_uniform():
    total = sum(random_mask((20,), 0.25, seed=s) for s in range(2000))
    assert total.sum() == 2000 * 5
    assert bool(((total - 500).abs() < 5 * (2000 * 0.25 * 0.75) ** 0.5).all())


def test_box_mask():
    mask = box_mask((2, 5, 6), height=3, width=2)
    wanted = torch.ones(2, 5, 6)
    wanted[:, 1:4, 2:4] = 0
    assert torch.equal(mask, wanted)
    assert torch.equal(box_mask((1, 5, 6), 1, 2, top=0, left=4)[0, 0], torch.tensor([1.0, 1, 1, 1, 0, 0]))


@pytest.mark.parametrize("pattern", ["random", "gaussian"])
@pytest.mark.parametrize("axis", [-2, -1])
def test_lines_are_whole_with_calibration_and_the_stated_acceleration(pattern, axis):
    mask = line_mask((1, 64, 48), acceleration=4, calib=8, seed=1, pattern=pattern, axis=axis)
    n = mask.shape[axis]
    lines = mask[0].amax(-1 if axis == -2 else -2)
    assert torch.equal(mask[0], (lines[:, None] if axis == -2 else lines).expand(64, 48))
    assert int(lines.sum()) == n // 4
    assert bool(lines[n // 2 - 4 : n // 2 + 4].all())


def test_gaussian_lines_are_denser_in_the_middle():
    total = sum(line_mask((60, 1), 3.0, calib=0, seed=s, pattern="gaussian")[:, 0] for s in range(200))
    assert total[25:35].mean() > 2 * total[:10].mean() > 0


def test_uniform_lines_go_through_the_zero_frequency():
    lines = line_mask((1, 12, 1), 3.0, calib=0, pattern="uniform")[0, :, 0]
    assert lines.nonzero().flatten().tolist() == [0, 3, 6, 9]
    with_calib = line_mask((1, 12, 1), 3.0, calib=3, pattern="uniform")[0, :, 0]
    assert with_calib.nonzero().flatten().tolist() == [0, 3, 5, 6, 7, 9]
    assert line_mask((1, 7, 1), 2.5, calib=0, pattern="uniform")[0, :, 0].nonzero().flatten().tolist() == [1, 3, 5]


def test_poisson_disc_is_denser_in_the_middle_and_reaches_its_acceleration():
    mask = poisson_disc_mask((1, 64, 48), 4.0, calib=8, seed=2)
    assert float(mask.numel() / mask.sum()) == pytest.approx(4, abs=0.1)
    assert bool(mask[0, 28:36, 20:28].all())
    assert float(mask[0, 16:48, 12:36].mean()) > 1.3 * float(mask.mean())
    assert float(mask[0, :4, :4].sum()) == 0


@pytest.mark.parametrize(
    ("name", "kwargs", "words"),
    [
        ("random_mask", {"shape": (1, 4), "fraction": 0.0, "seed": 0}, "fraction"),
        ("random_mask", {"shape": (1, 4), "fraction": 1.5, "seed": 0}, "fraction"),
        ("random_mask", {"shape": (1, 0), "fraction": 0.5, "seed": 0}, "positive"),
        ("random_mask", {"shape": (1, 4), "fration": 0.5, "seed": 0}, "fraction"),
        ("box_mask", {"shape": (1, 4, 4), "height": 5, "width": 1}, "inside"),
        ("box_mask", {"shape": (1, 4, 4), "height": 4, "width": 4}, "leave pixels"),
        ("box_mask", {"shape": (1, 4, 4), "height": 2, "width": 2, "top": 3}, "inside"),
        ("line_mask", {"shape": (1, 8, 8), "acceleration": 0.5}, "acceleration"),
        ("line_mask", {"shape": (1, 8, 8), "acceleration": 2.0, "calib": 6}, "lower calib"),
        ("line_mask", {"shape": (1, 8, 8), "acceleration": 99.0, "calib": 0}, "keeps none"),
        ("line_mask", {"shape": (8,), "acceleration": 2.0}, "2 positive sizes"),
        ("line_mask", {"shape": (1, 8, 8), "acceleration": 2.0, "pattern": "radial"}, "pattern"),
        ("poisson_disc_mask", {"shape": (1, 8, 8), "acceleration": 1.0}, "acceleration"),
        ("poisson_disc_mask", {"shape": (1, 16, 16), "acceleration": 8.0, "calib": 14}, "raise tolerance"),
        ("poisson_disc_mask", {"shape": (1, 16, 16), "acceleration": 2.0, "calib": 16}, "nothing to choose"),
    ],
)
def test_refused(name, kwargs, words):
    with pytest.raises(SpecError, match=words):
        pk.make(name, **kwargs)
