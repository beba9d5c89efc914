"""Non-Cartesian MRI against the exact sum, the Cartesian operator, sigpy, and finite differences."""

import math

import pytest
import torch

from pnpkit import make
from pnpkit.errors import ShapeError, SpecError
from pnpkit.operators import MRI, NonCartesianMRI
from pnpkit.operators.makers.trajectories import density_compensation


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def exact(x: torch.Tensor, trajectory: torch.Tensor) -> torch.Tensor:
    """Σ_n x_n exp(−2πi k·n/N)/√(ΠN) for one image (*size), in float64."""
    size = x.shape
    axes = [torch.arange(n, dtype=torch.float64) - n // 2 for n in size]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(size))
    phase = trajectory.double() @ (grid / torch.tensor(size)).T
    return (
        torch.polar(torch.ones_like(phase), -2 * math.pi * phase)
        @ x.flatten().to(torch.complex128)
        / math.sqrt(x.numel())
    )


@pytest.mark.parametrize("size", [(12, 9), (6, 8, 5)])
@pytest.mark.parametrize(("eps", "dtype"), [(1e-4, torch.float32), (1e-6, torch.float32), (1e-10, torch.float64)])
def test_error_against_the_exact_sum_is_below_eps(size, eps, dtype):
    points = (torch.rand(200, len(size), generator=rng()) - 0.5) * torch.tensor(size)
    maps = torch.randn(3, *size, dtype=torch.complex64, generator=rng(1))
    a = NonCartesianMRI(trajectory=points, shape=(1, *size), maps=maps, eps=eps).to(dtype)
    x = torch.randn(2, 1, *size, dtype=dtype.to_complex(), generator=rng(2))
    wanted = torch.stack([torch.stack([exact(m * i[0], points) for m in maps]) for i in x])
    assert float((a(x) - wanted).abs().max() / wanted.abs().max()) < 5 * max(eps, 1e-6)


def test_torchkbnufft_is_the_same_operator_less_exactly():
    size, points = (32, 24), (torch.rand(300, 2, generator=rng()) - 0.5) * torch.tensor([32.0, 24.0])
    x = torch.randn(1, 1, *size, dtype=torch.complex64, generator=rng(2))
    fast, table = (NonCartesianMRI(trajectory=points, shape=(1, *size), engine=e) for e in ("finufft", "torchkbnufft"))
    assert float((table(x) - fast(x)).norm() / fast(x).norm()) < 2e-3
    y = torch.randn(1, 1, 300, dtype=torch.complex64, generator=rng(3))
    inner = torch.vdot(table(x).flatten(), y.flatten()), torch.vdot(x.flatten(), table.adjoint(y).flatten())
    assert torch.allclose(*inner, rtol=1e-4)


def test_on_the_grid_it_is_the_cartesian_operator():
    size = (8, 7)
    grid = torch.cartesian_prod(torch.arange(8.0) - 4, torch.arange(7.0) - 3)
    maps = torch.randn(2, *size, dtype=torch.complex64, generator=rng())
    x = torch.randn(1, 1, *size, dtype=torch.complex64, generator=rng(1))
    ours = NonCartesianMRI(trajectory=grid, shape=(1, *size), maps=maps, eps=1e-6)
    cartesian = MRI(mask=torch.ones(1, *size), maps=maps)
    assert torch.allclose(ours(x).reshape(1, 2, *size), cartesian(x), atol=1e-4)
    assert torch.allclose(ours.normal(x), cartesian.normal(x), atol=1e-5)


def test_sigpys_convention():
    import sigpy

    size, points = (16, 12), (torch.rand(100, 2, generator=rng()) - 0.5) * torch.tensor([16.0, 12.0])
    x = torch.randn(*size, dtype=torch.complex64, generator=rng(1))
    theirs = torch.from_numpy(sigpy.nufft(x.numpy(), points.numpy(), oversamp=2, width=6))
    ours = NonCartesianMRI(trajectory=points, shape=(1, *size))(x[None, None])[0, 0]
    assert float((ours - theirs).norm() / theirs.norm()) < 2e-3


@pytest.mark.parametrize("size", [(12, 9), (6, 8, 5)])
def test_the_normal_operator_is_toeplitz_and_exact(size):
    points = (torch.rand(2, 150, len(size), generator=rng(), dtype=torch.float64) - 0.5) * torch.tensor(size)
    a = NonCartesianMRI(trajectory=points, shape=(1, *size), eps=1e-12)
    x = torch.randn(2, 1, *size, dtype=torch.complex128, generator=rng(2))
    assert torch.allclose(a.normal(x), a.adjoint(a(x)), atol=1e-8 * float(x.abs().max() * 150))


def test_a_loose_eps_leaves_the_normal_operator_exact():
    points = (torch.rand(150, 2, generator=rng(), dtype=torch.float64) - 0.5) * 12
    loose, tight = (NonCartesianMRI(trajectory=points, shape=(1, 12, 12), eps=e) for e in (1e-2, 1e-12))
    x = torch.randn(1, 1, 12, 12, dtype=torch.complex128, generator=rng(2))
    assert torch.allclose(loose.normal(x), tight.normal(x), rtol=1e-10)


def test_plans_are_made_once(monkeypatch):
    import finufft

    made = []
    real = finufft.Plan
    monkeypatch.setattr(finufft, "Plan", lambda *a, **k: made.append(a[0]) or real(*a, **k))
    a = NonCartesianMRI(trajectory=torch.rand(50, 2) * 5, shape=(1, 12, 12))
    x = torch.randn(3, 1, 12, 12, dtype=torch.complex64)
    for _ in range(3):
        a.adjoint(a(x))
    assert sorted(made) == [1, 2]


def test_gradient_in_the_trajectory_by_finite_differences():
    points = (torch.rand(20, 2, generator=rng(), dtype=torch.float64) - 0.5) * 8
    a = NonCartesianMRI(trajectory=points, shape=(1, 9, 8), eps=1e-12)
    x = torch.randn(1, 1, 9, 8, dtype=torch.complex128, generator=rng(1))
    target = torch.randn(1, 1, 20, dtype=torch.complex128, generator=rng(2))

    def loss(k):
        return (a.at(trajectory=k)(x) - target).abs().square().sum()

    k = points.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(k), k)
    for j, d in ((0, 0), (7, 1), (19, 0)):
        step = torch.zeros_like(points)
        step[j, d] = 1e-5
        assert float(gradient[j, d]) == pytest.approx(float(loss(points + step) - loss(points - step)) / 2e-5, rel=1e-5)


def test_density_compensation_makes_the_adjoint_an_image():
    size = (48, 48)
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, 48)] * 2, indexing="ij")
    image = ((x**2 + y**2) < 0.5).to(torch.complex64)[None, None] * (1 + 0.5 * x)
    trajectory = make("radial_trajectory", shape=size, spokes=90, samples=96)
    a = NonCartesianMRI(trajectory=trajectory, shape=(1, *size))
    w = density_compensation(trajectory, size)
    assert float(w.min()) >= 0 and w.shape == (90 * 96,)
    back = a.adjoint(w * a(image))
    inside = (x**2 + y**2 < 0.4)[None, None]
    assert float((back - image)[inside].norm() / image[inside].norm()) < 0.1
    plain = a.adjoint(a(image))
    plain = plain * (image.abs().sum() / plain.abs().sum())
    assert float((back - image).norm()) < 0.3 * float((plain - image).norm())


def test_trajectories():
    radial = make("radial_trajectory", shape=(32, 20), spokes=4, samples=8, golden=False).reshape(4, 8, 2)
    assert torch.allclose(radial[:, 4], torch.zeros(4, 2)) and radial[0, 0].tolist() == [0.0, -10.0]
    assert torch.allclose(radial[2, 0], torch.tensor([-16.0, 0.0]), atol=1e-4)
    golden = make("radial_trajectory", shape=(2, 2), spokes=3, samples=2)[::2]
    angle = torch.atan2(-golden[:, 0], -golden[:, 1])
    assert float(torch.rad2deg(angle[1] - angle[0])) == pytest.approx(111.246, abs=0.01)
    spiral = make("spiral_trajectory", shape=(32, 32), interleaves=3, samples=100, turns=4.0).reshape(3, 100, 2)
    radius = spiral.norm(dim=-1)
    assert torch.allclose(radius, radius[:1].expand(3, -1), atol=1e-4) and float(radius.max()) < 16
    ball = make("radial_trajectory_3d", shape=(8, 8, 8), spokes=500, samples=2)[::2]
    assert torch.allclose(ball.norm(dim=-1), torch.full((500,), 4.0), atol=1e-4)
    assert (
        float((ball / 4).T.cov().sub(torch.eye(3) / 3).abs().max()) < 0.35
    )  # half a sphere: off-centre along one axis


def test_wrong_trajectories():
    good = torch.rand(10, 2)
    with pytest.raises(ShapeError, match=r"\(M, 2\)"):
        NonCartesianMRI(trajectory=torch.rand(10, 3), shape=(1, 8, 8))
    with pytest.raises(SpecError, match="cycles per field of view"):
        NonCartesianMRI(trajectory=good * 100, shape=(1, 8, 8))
    with pytest.raises(ShapeError, match="maps are"):
        NonCartesianMRI(trajectory=good, shape=(1, 8, 8), maps=torch.ones(2, 7, 8, dtype=torch.complex64))
    with pytest.raises(SpecError, match="maps are complex"):
        NonCartesianMRI(trajectory=good, shape=(1, 8, 8), maps=torch.ones(2, 8, 8))
    with pytest.raises(SpecError, match="eps"):
        NonCartesianMRI(trajectory=good, shape=(1, 8, 8), eps=0.0)
    with pytest.raises(SpecError, match="NaN"):
        NonCartesianMRI(trajectory=good * float("nan"), shape=(1, 8, 8))
