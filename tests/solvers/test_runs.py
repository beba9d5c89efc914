"""What holds of every registered solver's run: checkpoints, results, warm starts, gradients."""

import pytest
import torch

from pnpkit import registry
from pnpkit.errors import CapabilityError, DataError
from pnpkit.priors import L1, TV, Tikhonov
from pnpkit.priors.base import Priors
from pnpkit.solvers.base import iterate, solve
from pnpkit.solvers.result import Result
from pnpkit.testing.cases import case_for, tensors_of, with_settings
from pnpkit.testing.core import Skip

NAMES = registry.names("solvers")


def started(name: str, n_steps: int = 7):
    """(problem, prior, a short solver) for a registered name."""
    solver = with_settings(registry.get("solvers", name).example(), n_steps=n_steps)
    try:
        return *case_for(solver), solver
    except (Skip, CapabilityError) as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("name", NAMES)
def test_a_run_cut_anywhere_and_resumed_is_the_same_to_the_last_bit(name, tmp_path):
    problem, prior, solver = started(name)
    whole = solve(problem, prior, solver, seed=3)

    def cut(step):
        if step.k == 4:
            raise KeyboardInterrupt

    file = tmp_path / "run.safetensors"
    partial = solve(problem, prior, solver, seed=3, checkpoint=file, every=100, progress=cut)
    assert partial.stopped == "interrupted" and 0 < partial.steps < 7
    resumed = solve(problem, prior, solver, seed=3, checkpoint=file)
    assert resumed.steps == whole.steps and torch.equal(resumed.x, whole.x)
    assert resumed.info.keys() == whole.info.keys()
    for key, values in whole.info.items():
        assert torch.equal(resumed.info[key], values), key


@pytest.mark.parametrize("name", NAMES)
def test_a_result_comes_back_from_its_file(name, tmp_path):
    problem, prior, solver = started(name, 3)
    result = solve(problem, prior, solver, seed=5, objective=True)
    result.save(tmp_path / "r.safetensors")
    back = Result.load(tmp_path / "r.safetensors")
    assert torch.equal(back.x, result.x) and back.spec == result.spec and back.calls == result.calls
    assert (back.seed, back.steps, back.stopped) == (5, result.steps, result.stopped)
    assert all(torch.equal(back.info[k], v) for k, v in result.info.items())
    assert dict(back.rebuild("solver").spec) == dict(solver.spec)
    assert back.rebuild("likelihood").name == problem.likelihood.name


def test_several_priors_come_back_by_what_they_are_on(tmp_path):
    problem, _, solver = started("pgd", 2)
    both = Priors(x=TV(weight=3.0), theta={"kernel": L1(weight=0.5), "shift": Tikhonov(weight=2.0)})
    solve(problem, both, solver).save(tmp_path / "r.safetensors")
    back = Result.load(tmp_path / "r.safetensors").rebuild("prior")
    assert isinstance(back, Priors) and list(back) == ["x", "kernel", "shift"]
    assert back["shift"].weight == 2.0 and isinstance(back["x"], TV)


@pytest.mark.parametrize("name", NAMES)
def test_the_caller_owns_the_loop(name):
    problem, prior, solver = started(name, 5)
    rng = torch.Generator().manual_seed(0)
    seen = []
    for step in iterate(problem, prior, solver, rng):
        seen.append(step.x.clone())
        assert step.k == len(seen) - 1 and step.finite.shape == (problem.batch,)
        assert all(v.shape == (problem.batch,) for v in step.info.values())
        if step.k == 2:
            break
    again = [step.x for _, step in zip(range(3), iterate(problem, prior, solver, rng.manual_seed(0)), strict=False)]
    assert len(seen) == 3 and all(torch.equal(a, b) for a, b in zip(seen, again, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_the_caller_gave_is_written(name):
    problem, prior, solver = started(name, 3)
    x0 = torch.rand(problem.batch, *problem.in_shape, generator=torch.Generator().manual_seed(1)) + 0.1
    before = x0.clone(), problem.y.clone(), [t.clone() for t in problem.operator.state_dict().values()]
    solve(problem, prior, solver, x0=x0)
    assert torch.equal(x0, before[0]) and torch.equal(problem.y, before[1])
    assert all(torch.equal(a, b) for a, b in zip(problem.operator.state_dict().values(), before[2], strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_unrolled_runs_have_gradients_when_asked(name):
    problem, prior, solver = started(name, 3)
    x0 = (
        torch.rand(problem.batch, *problem.in_shape, generator=torch.Generator().manual_seed(1)) + 0.1
    ).requires_grad_()
    assert not solve(problem, prior, solver, x0=x0).x.requires_grad
    x = solve(problem, prior, solver, x0=x0, grad=True).x
    (gradient,) = torch.autograd.grad(x.square().sum(), x0)
    assert bool(torch.isfinite(gradient).all())
    assert solver.samples or float(gradient.abs().max()) > 0  # samplers put noise or data in the place of x0


def test_a_checkpoint_can_be_continued_for_longer_but_not_by_a_schedule(tmp_path):
    problem, prior, solver = started("fista", 4)
    file = tmp_path / "f.safetensors"
    solve(problem, prior, solver, checkpoint=file, every=4)
    longer = with_settings(solver, n_steps=9)
    assert torch.equal(solve(problem, prior, longer, checkpoint=file).x, solve(problem, prior, longer).x)
    problem, prior, solver = started("hqs", 4)
    file = tmp_path / "h.safetensors"
    solve(problem, prior, solver, checkpoint=file, every=4)
    with pytest.raises(DataError, match="another run"):
        solve(problem, prior, with_settings(solver, n_steps=9), checkpoint=file)


def test_states_are_flat_tensors():
    for name in NAMES:
        solver = registry.get("solvers", name).example()
        try:
            problem, prior = case_for(solver)
        except Skip:
            continue
        state = solver.init(problem, prior, torch.Generator().manual_seed(0))
        assert state.x.shape == (problem.batch, *problem.in_shape) and len(list(tensors_of(state))) >= 1, name
