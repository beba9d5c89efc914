"""CT against exact chords, ASTRA, and filtered back-projection of what is known."""

import math

import pytest
import torch

from pnpkit.errors import ShapeError, SpecError
from pnpkit.operators import CT

FAN = {"source_to_axis": 120.0, "source_to_detector": 200.0}


def turn(n: int, whole: bool = False) -> torch.Tensor:
    return torch.arange(n) * ((2 if whole else 1) * math.pi / n)


def grid(n: int, over: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """(x, y) of pixel centres, x to the right and y upwards, ``over`` points a pixel."""
    at = (torch.arange(n * over, dtype=torch.float64) + 0.5) / over - n / 2
    y, x = torch.meshgrid(-at, at, indexing="ij")
    return x, y


def disc(n: int, cx: float, cy: float, radius: float) -> torch.Tensor:
    """An anti-aliased disc, (1, 1, n, n)."""
    x, y = grid(n, 8)
    inside = (((x - cx) ** 2 + (y - cy) ** 2) < radius**2).double()
    return inside.reshape(n, 8, n, 8).mean((1, 3))[None, None]


@pytest.mark.parametrize("fan", [False, True])
@pytest.mark.parametrize("offset", [0.0, 3.3])
def test_chords_of_a_disc(fan, offset):
    """Every ray's integral is the length of its chord, to the discretisation of the disc's edge."""
    cx, cy, radius, pitch = 8.0, -5.0, 18.0, 1.3
    angles = turn(24, whole=True).double()
    shift, beam = torch.tensor([offset]).double(), FAN if fan else {}
    a = CT(angles=angles, shape=(1, 64, 64), detectors=91, pitch=pitch, offset=shift, **beam)
    place = (torch.arange(91) - 45) * pitch + offset
    if fan:
        source = torch.stack([120 * angles.sin(), -120 * angles.cos()], -1)[:, None]
        behind = torch.stack([-80 * angles.sin(), 80 * angles.cos()], -1)[:, None]
        bins = behind + place[:, None] * torch.stack([angles.cos(), angles.sin()], -1)[:, None]
        direction = (bins - source) / (bins - source).norm(dim=-1, keepdim=True)
        away = torch.tensor([cx, cy]) - source
        distance = (away[..., 0] * direction[..., 1] - away[..., 1] * direction[..., 0]).abs()
    else:
        distance = (place - (cx * angles.cos() + cy * angles.sin())[:, None]).abs()
    chords = 2 * (radius**2 - distance**2).clamp_min(0).sqrt()
    error = (a(disc(64, cx, cy, radius))[0, 0] - chords).abs()
    assert float(error.mean()) < 0.15 and float(error.max()) < 5  # the edge, seen along it


@pytest.mark.parametrize("beam", [{}, FAN])
def test_back_projections_of_two_arcs_add_up(beam):
    """Limited angles: each view stands for its own arc, so a half turn is the sum of its quarters."""
    angles = turn(40).double()
    operators = [CT(angles=a, shape=(1, 24, 24), detectors=50, **beam) for a in (angles, angles[:20], angles[20:])]
    y = operators[0](disc(24, 2.0, 1.0, 7.0))
    parts = operators[1].fbp(y[..., :20, :]) + operators[2].fbp(y[..., 20:, :])
    assert torch.allclose(parts, operators[0].fbp(y), atol=1e-9)
    each = CT(angles=torch.stack([angles[:20], angles[20:]]), shape=(1, 24, 24), detectors=50, **beam)
    both = each.fbp(torch.cat([y[..., :20, :], y[..., 20:, :]]))
    assert torch.allclose(both.sum(0, keepdim=True), operators[0].fbp(y), atol=1e-9)
    golden = torch.arange(377) * (math.pi * (3 - 5**0.5))  # a full turn, in no order
    a = CT(angles=golden.double(), shape=(1, 24, 24), detectors=50, **beam)
    assert float(a.fbp(a(disc(24, 2.0, 1.0, 7.0)))[0, 0, 11, 13]) == pytest.approx(1, abs=0.03)


def test_units_of_pixel_and_pitch():
    """The same scan in other units of length: integrals are in those units."""
    x = disc(32, 2.0, 1.0, 9.0)
    millimetres = CT(angles=turn(12).double(), shape=(1, 32, 32), detectors=50, pitch=1.0, pixel=1.0)
    metres = CT(angles=turn(12).double(), shape=(1, 32, 32), detectors=50, pitch=1e-3, pixel=1e-3)
    assert torch.allclose(1e3 * metres(x), millimetres(x), atol=1e-9)


@pytest.mark.parametrize("fan", [False, True])
def test_astra(fan):
    """The parallel projector is ASTRA's "linear" to rounding; the fan is near its other discretisations."""
    astra = pytest.importorskip("astra")
    x = disc(48, 4.0, 6.0, 11.0).float()
    angles = turn(30, whole=fan)
    ours = CT(angles=angles, shape=(1, 48, 48), detectors=90, pitch=1.2, **(FAN if fan else {}))(x)[0, 0]
    volume = astra.create_vol_geom(48, 48)
    if fan:
        geometry = astra.create_proj_geom("fanflat", 1.2, 90, angles.numpy(), 120.0, 80.0)
    else:
        geometry = astra.create_proj_geom("parallel", 1.2, 90, angles.numpy())
    projector = astra.create_projector("strip_fanflat" if fan else "linear", geometry, volume)
    theirs = torch.from_numpy(astra.create_sino(x[0, 0].numpy(), projector)[1].copy())
    scale = 1.2 if fan and float(theirs.mean()) > 1.1 * float(ours.mean()) else 1.0  # strips: integrals over a bin
    assert float((ours - theirs / scale).norm() / ours.norm()) < (0.05 if fan else 1e-5)


@pytest.mark.parametrize(("fan", "views"), [(False, 180), (True, 360)])
@pytest.mark.parametrize("window", ["ram-lak", "shepp-logan", "cosine", "hamming", "hann"])
def test_filtered_back_projection(fan, views, window):
    x = disc(64, 6.0, -4.0, 17.0).float() + 0.5 * disc(64, -9.0, 12.0, 6.0).float()
    a = CT(
        angles=turn(views, whole=fan),
        shape=(1, 64, 64),
        detectors=128,
        pitch=1.3 if fan else 0.8,
        **(FAN if fan else {}),
    )
    back = a.fbp(a(x), window)
    across, up = grid(64)
    inside = ((across - 6) ** 2 + (up + 4) ** 2 < 12**2)[None, None]
    assert float(back[inside].mean()) == pytest.approx(1, abs=0.02)
    assert float((back - x).norm() / x.norm()) < 0.2


def test_the_least_squares_image_is_the_image():
    x = torch.rand(1, 1, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    a = CT(angles=turn(24).double(), shape=(1, 12, 12), detectors=20).with_cg(tol=1e-12, max_iter=2000)
    assert torch.allclose(a.pinv(a(x)), x, atol=1e-4)


def test_fewer_views_are_rows():
    a = CT(angles=turn(12), shape=(2, 16, 16), detectors=24)
    x = torch.rand(3, 2, 16, 16)
    few = a.rows(torch.tensor([2, 7]))
    assert few.out_shape == (2, 2, 24) and torch.equal(few(x), a(x)[:, :, [2, 7]])


def test_threads_are_torchs_and_change_nothing():
    """numba's pool set those of the whole process to as many as there are cores."""
    a, y = CT(angles=turn(20), shape=(1, 24, 24), detectors=40), torch.rand(1, 1, 20, 40)
    before, images = torch.get_num_threads(), []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            images.append(a.adjoint(y))
            assert torch.get_num_threads() == n
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*images)


def test_angles_are_found_by_descent():
    """An unknown tilt of all angles: the gradient leads back to it."""
    x = disc(24, 4.0, 3.0, 5.0) + disc(24, -6.0, 2.0, 3.0)
    a = CT(angles=turn(16).double(), shape=(1, 24, 24), detectors=36)
    y, tilt = a.at(angles=turn(16).double() + 0.05)(x), torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([tilt], max_iter=30, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = (a.at(angles=turn(16).double() + tilt)(x) - y).square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    assert float(tilt.detach()) == pytest.approx(0.05, abs=1e-4)


def test_wrong_scans():
    angles = turn(8)
    with pytest.raises(SpecError, match="both source_to_axis"):
        CT(angles=angles, shape=(1, 8, 8), detectors=12, source_to_axis=20.0)
    with pytest.raises(SpecError, match="outside the image"):
        CT(angles=angles, shape=(1, 8, 8), detectors=12, source_to_axis=3.0, source_to_detector=20.0)
    with pytest.raises(ShapeError, match="radians"):
        CT(angles=torch.arange(8), shape=(1, 8, 8), detectors=12)
    with pytest.raises(SpecError, match="detectors"):
        CT(angles=angles, shape=(1, 8, 8), detectors=0)
    with pytest.raises(SpecError, match="NaN"):
        CT(angles=angles * float("nan"), shape=(1, 8, 8), detectors=12)
