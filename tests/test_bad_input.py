"""What a user gets wrong: every constructor, Problem and solve answer with a PnpkitError that helps."""

import pickle
import warnings
from dataclasses import dataclass

import pytest
import torch
from pydantic import PositiveFloat

from pnpkit import errors, registry, spec
from pnpkit.errors import (
    CapabilityError,
    ConvergenceWarning,
    DataError,
    DivergedError,
    PnpkitError,
    ShapeError,
    SpecError,
)
from pnpkit.likelihoods import Gaussian
from pnpkit.operators.diagonal import Diagonal, Identity
from pnpkit.operators.inpainting import Inpainting
from pnpkit.priors.base import Denoiser, Priors, Proximable
from pnpkit.problem import Problem
from pnpkit.solvers.base import iterate, solve
from pnpkit.solvers.result import Result

from .operators.toys_contracts import Dense, GaussianImages, GaussianPosterior, Ridge, rng
from .toys_solvers import HalfQuadratic, Iterate, Landweber, ProximalGradient


def examples() -> dict[str, object]:
    """An instance of every registered component that has one here (weights may be absent)."""
    found = {}
    for kind in ("operators", "likelihoods", "priors", "solvers"):
        for name in registry.names(kind):
            try:
                found[f"{kind}/{name}"] = registry.get(kind, name).example()
            except PnpkitError:
                continue
    return found


EXAMPLES = examples()


def parameters(component) -> dict:
    return dict(component.spec)


def test_there_is_an_example_of_nearly_everything():
    assert len(EXAMPLES) > 35


# --- constructors, all of them ---


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_constructor_refuses_unknown_and_mistyped_parameters(name):
    component = EXAMPLES[name]
    cls, given = type(component), parameters(component)
    with pytest.raises(SpecError, match="no_such_thing"):
        cls(**given, no_such_thing=1)
    for field in given:
        with pytest.raises(PnpkitError, match=field):
            cls(**{**given, field: object()})


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_constructor_refuses_misspelt_parameters_with_a_suggestion(name):
    component = EXAMPLES[name]
    cls, given = type(component), parameters(component)
    for field in (f for f in given if len(f) > 3):
        wrong = {k: v for k, v in given.items() if k != field} | {field[:-1]: given[field]}
        if field[:-1] in given:
            continue
        with pytest.raises(SpecError, match=f"{field[:-1]}.*Did you mean"):
            cls(**wrong)


def tensor_fields(kind: str = "") -> list[tuple[str, str]]:
    return [
        (n, f)
        for n, c in EXAMPLES.items()
        if n.startswith(kind)
        for f, v in parameters(c).items()
        if isinstance(v, torch.Tensor)
    ]


@pytest.mark.parametrize(("name", "field"), tensor_fields())
def test_every_tensor_parameter_refuses_nan_and_inf(name, field):
    component = EXAMPLES[name]
    cls, given = type(component), parameters(component)
    value = given[field]
    if not (value.is_floating_point() or value.is_complex()):
        pytest.skip("integers have no NaN")
    for bad in (float("nan"), float("inf")):
        broken = value.clone()
        broken.view(-1)[0] = bad
        with pytest.raises(PnpkitError):
            cls(**{**given, field: broken})


@pytest.mark.parametrize(("name", "field"), tensor_fields("operators"))
def test_every_tensor_parameter_of_the_wrong_rank_is_our_error_not_torch_s(name, field):
    component = EXAMPLES[name]
    cls, given = type(component), parameters(component)
    value = given[field]
    for bad in (value[(None,) * 3], value.flatten()[0], value.flatten()[:0]):
        with pytest.raises(PnpkitError):
            cls(**{**given, field: bad})


@pytest.mark.parametrize("name", [n for n in EXAMPLES if "shape" in parameters(EXAMPLES[n])])
@pytest.mark.parametrize("shape", [(), (0, 4, 4), (-1, 4, 4), (1, 4.0, 4), "444"], ids=str)
def test_every_shape_parameter_refuses_what_is_no_shape(name, shape):
    component = EXAMPLES[name]
    with pytest.raises(PnpkitError):
        type(component)(**{**parameters(component), "shape": shape})


# --- operators ---


def test_all_zero_mask():
    with pytest.raises(SpecError, match="zero everywhere, so nothing is measured"):
        Inpainting(mask=torch.zeros(1, 4, 4))


def test_tensors_of_different_precision_or_device():
    class Two(Inpainting):
        def __init__(self, a: torch.Tensor, b: torch.Tensor):
            super().__init__(a)
            self.hold(a=a, b=b)

    with pytest.raises(SpecError, match="differ in precision or device"):
        Two(a=torch.ones(1, 2, 2), b=torch.ones(1, 2, 2).double())


def test_composition_of_parts_that_do_not_fit():
    small, large = Identity(shape=(1, 2, 2)), Identity(shape=(1, 3, 3))
    with pytest.raises(ShapeError, match="the inner one gives"):
        small @ large
    with pytest.raises(ShapeError, match="same spaces"):
        small + large
    with pytest.raises(ShapeError, match="move one with"):
        small @ Identity(shape=(1, 2, 2)).to(torch.float64)
    with pytest.raises(SpecError, match="to apply one, call A"):
        small @ torch.zeros(1, 1, 2, 2)


def test_factor_that_is_no_number():
    with pytest.raises(SpecError, match="factor"):
        "2" * Identity(shape=(1, 2, 2))


def test_singular_operator_has_a_prox_and_a_pseudo_inverse():
    """A prox is never singular; the pseudo-inverse leaves what is not measured at zero."""
    op = Diagonal(weight=torch.tensor([[[1.0, 0.0, 2.0]]]), shape=(1, 1, 3))
    y, z = torch.tensor([[[[1.0, 5.0, 4.0]]]]), torch.tensor([[[[7.0, 8.0, 9.0]]]])
    assert torch.equal(op.pinv(y), torch.tensor([[[[1.0, 0.0, 2.0]]]]))
    x = op.prox_l2(z, y, 1e6)
    assert float(x[0, 0, 0, 1]) == 8.0 and bool(torch.isfinite(x).all())
    nothing = Diagonal(weight=torch.zeros(1, 1, 3), shape=(1, 1, 3))
    assert torch.equal(nothing.pinv(y), torch.zeros_like(y)) and float(nothing.norm()) == 0
    assert torch.equal(nothing.prox_l2(z, y, 3.0), z)
    assert torch.equal(nothing.initial(y), torch.zeros_like(y))


def test_an_inner_solve_that_does_not_converge_warns_and_says_what_to_raise():
    entries = torch.randn(9, 12, generator=rng()) * torch.logspace(0, 4, 12)
    op = Dense(entries=entries, shape=(1, 3, 4)).with_cg(tol=1e-7, max_iter=2)
    with pytest.warns(ConvergenceWarning, match=r"Dense.prox_l2: stopped after 2 iterations.*with_cg\(max_iter"):
        op.prox_l2(torch.ones(1, 1, 3, 4), torch.ones(1, 9), 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        op.with_cg(tol=1e-3, max_iter=500).prox_l2(torch.ones(1, 1, 3, 4), torch.ones(1, 9), 1e-8)


def test_operator_without_an_example_says_how_to_get_one():
    class Bare(Identity):
        example = classmethod(lambda cls: super(Identity, cls).example())

    with pytest.raises(CapabilityError, match=r"Bare has no example\(\); give it a classmethod"):
        Bare.example()


# --- priors ---


def test_denoiser_outside_its_domain():
    prior = GaussianImages.example()
    x = torch.zeros(2, 1, 4, 4)
    with pytest.raises(CapabilityError, match=r"sigma 100 to 100 is outside the range \[0.001, 10\].*fit_sigma"):
        prior.denoise(x, 100.0)
    with pytest.raises(ShapeError, match=r"works on torch.float32 images, these are torch.float64"):
        prior.denoise(x.double(), 1.0)
    with pytest.raises(ShapeError, match=r"sigma must be a number or \(2,\), given \(3,\)"):
        prior.denoise(x, torch.ones(3))


def test_value_of_a_prior_without_one():
    class Implicit(Proximable):
        has_value = False

        def _prox(self, z, tau):
            return z

    with pytest.raises(CapabilityError, match="Implicit has no value: it is defined by its prox only"):
        Implicit().value(torch.zeros(1, 1, 2, 2))


def test_priors_by_what_they_are_on():
    both = Priors(x=Ridge(), theta={"kernel": Ridge(weight=2.0)})
    assert list(both) == ["x", "kernel"] and both["kernel"].weight == 2.0
    with pytest.raises(SpecError, match="theta must be a prior, given float"):
        Priors(x=Ridge(), theta=0.5)


# --- solving ---


def problem(n: int = 2) -> Problem:
    op = Dense.example()
    return Problem(op, Gaussian(sigma=0.1), torch.randn(n, 9, generator=rng(1)))


@pytest.mark.parametrize(
    ("solver", "prior", "message"),
    [
        (ProximalGradient(), None, "ProximalGradient needs prior to provide prox; no prior provides nothing"),
        (ProximalGradient(), GaussianImages.example(), "needs prior to provide prox; GaussianImages provides denoise"),
        (
            HalfQuadratic(),
            GaussianPosterior.example(),
            "needs prior to provide denoise; GaussianPosterior provides posterior",
        ),
        (Landweber(), Ridge(), "uses no prior, but Ridge was given"),
    ],
)
def test_parts_that_do_not_fit_are_refused_before_the_first_step(solver, prior, message):
    with pytest.raises(CapabilityError, match=message):
        solve(problem(), prior, solver)


def test_all_reasons_are_given_at_once():
    from pnpkit.likelihoods import Poisson

    bent = registry.get("operators", "in_theta").example()
    counts = Problem(bent, Poisson(), torch.ones(1, *bent.out_shape))
    with pytest.raises(CapabilityError, match=r"needs operator to provide linear.*needs prior.*needs likelihood"):
        solve(counts, None, ProximalGradient())


@pytest.mark.parametrize("x0", [torch.zeros(2, 1, 4, 3), torch.zeros(1, 1, 3, 4), torch.zeros(2, 1, 3, 4).double()])
def test_x0_that_does_not_fit(x0):
    with pytest.raises(ShapeError, match=r"x0 is .* expected \(2, 1, 3, 4\) torch.float32"):
        solve(problem(), None, Landweber(), x0=x0)


@dataclass(frozen=True, kw_only=True)
class Diverges(Landweber):
    """Steps far too long, in the samples whose data are large."""

    factor: PositiveFloat = 10.0
    threshold: float = 0.0

    def step(self, problem, prior, state, k, rng):
        new, info = super().step(problem, prior, state, k, rng)
        large = (problem.y.abs().amax(1) > self.threshold).reshape(-1, 1, 1, 1)
        return Iterate(torch.where(large, state.x + self.factor * (new.x - state.x), new.x)), info


def test_divergence_of_all_samples_is_an_error_with_the_last_finite_iterate():
    with pytest.raises(DivergedError, match=r"Diverges diverged at step \d+: every sample left") as caught:
        solve(problem(), None, Diverges(tol=None))
    assert bool(torch.isfinite(caught.value.x).all()) and caught.value.x.shape == (2, 1, 3, 4)
    assert caught.value.step > 0 and caught.value.exit_code == 4


def test_divergence_of_one_sample_is_reported_and_the_others_go_on():
    data = problem(3)
    mixed = Problem(data.operator, data.likelihood, data.y * torch.tensor([[0.1], [10.0], [0.1]]))
    result = solve(mixed, None, Diverges(tol=None, threshold=5.0))
    assert result.finite.tolist() == [True, False, True]
    good = solve(mixed[0:1], None, Landweber(tol=None))
    torch.testing.assert_close(result.x[0:1], good.x, rtol=1e-4, atol=1e-5)
    assert bool(torch.isfinite(result.x).all()), "a diverged sample is its last finite iterate"


def test_interrupted_run_keeps_what_it_has_and_resumes_bitwise(tmp_path):
    def interrupt(step):
        if step.k == 6:
            raise KeyboardInterrupt

    options = {"checkpoint": tmp_path / "run.ckpt", "every": 4}
    solver = Landweber(n_steps=20, tol=None)
    partial = solve(problem(), None, solver, progress=interrupt, **options)
    assert (partial.stopped, partial.steps) == ("interrupted", 7)
    resumed = solve(problem(), None, solver, **options)
    assert torch.equal(resumed.x, solve(problem(), None, solver).x) and resumed.steps == 20


def test_interrupted_run_without_a_checkpoint_is_interrupted():
    def interrupt(step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        solve(problem(), None, Landweber(), progress=interrupt)


def test_checkpoint_of_another_run_is_refused(tmp_path):
    file = tmp_path / "run.ckpt"
    solve(problem(), None, Landweber(n_steps=4, tol=None), checkpoint=file, every=2)
    other = Problem(problem().operator, Gaussian(sigma=0.1), problem().y + 1)
    for different in (
        lambda: solve(other, None, Landweber(n_steps=4, tol=None), checkpoint=file),
        lambda: solve(problem(), None, Landweber(n_steps=4, tol=None), seed=1, checkpoint=file),
        lambda: solve(problem(), Ridge(), ProximalGradient(n_steps=4), checkpoint=file),
    ):
        with pytest.raises(DataError, match="checkpoint of another run"):
            different()


@pytest.mark.parametrize("keep", [0, 7, 100, -1], ids=["empty", "head", "part", "all but one byte"])
def test_truncated_checkpoint_and_result_are_data_errors(tmp_path, keep):
    file = tmp_path / "file"
    solve(problem(), None, Landweber(n_steps=4, tol=None), checkpoint=file, every=2)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"cannot be read as a pnpkit file \(truncated"):
        solve(problem(), None, Landweber(n_steps=4, tol=None), checkpoint=file)
    with pytest.raises(DataError, match="file"):
        Result.load(file)


def test_result_that_is_not_there_or_something_else(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        Result.load(tmp_path / "nowhere")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(DataError, match="cannot be read"):
        Result.load(tmp_path / "text")
    file = tmp_path / "run.ckpt"
    solve(problem(), None, Landweber(n_steps=2, tol=None), checkpoint=file, every=1)
    with pytest.raises(DataError, match="is not a pnpkit result"):
        Result.load(file)


@pytest.mark.parametrize("every", [0, -1])
def test_impossible_checkpoint_interval(every):
    with pytest.raises(SpecError, match="every is a number of steps ≥ 1"):
        solve(problem(), None, Landweber(), every=every)


def test_iterate_is_lazy_and_owned_by_the_caller():
    steps = iterate(problem(), None, Landweber(n_steps=1000, tol=None), rng())
    assert [next(steps).k for _ in range(3)] == [0, 1, 2]
    steps.close()


# --- errors ---


ALL = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, PnpkitError)]


@pytest.mark.parametrize("error", ALL, ids=lambda e: e.__name__)
def test_errors_pickle_with_their_message(error):
    again = pickle.loads(pickle.dumps(error("what, and what to do")))
    assert type(again) is error and str(again) == "what, and what to do"


def test_diverged_error_pickles_with_its_iterate():
    again = pickle.loads(pickle.dumps(DivergedError("gone", torch.ones(2), 7)))
    assert torch.equal(again.x, torch.ones(2)) and again.step == 7


def test_errors_are_what_python_expects_of_them():
    for error, builtin in ((ShapeError, ValueError), (SpecError, ValueError), (DataError, ValueError)):
        assert issubclass(error, builtin)
    assert issubclass(errors.RegistryError, LookupError) and issubclass(DivergedError, ArithmeticError)
    codes = {CapabilityError: 3, DivergedError: 4, SpecError: 2, DataError: 2}
    assert {e: e.exit_code for e in codes} == codes


def test_suggestions():
    assert errors.suggest("guassian", ["gaussian", "poisson"]) == " Did you mean 'gaussian'?"
    assert errors.suggest("xyz", ["b", "a"]) == " Known: a, b."
    assert errors.suggest("xyz", []) == " Nothing is registered."


def test_specs_of_errors_name_the_component():
    with pytest.raises(SpecError, match=r"^Gaussian: sigma: required"):
        Gaussian()
    with pytest.raises(SpecError, match=r"given 'big'"):
        Gaussian(sigma="big")
    assert issubclass(Denoiser, spec.Component)


@pytest.mark.parametrize("value", [{"make": []}, {"make": None}, {"file": 3}, {"file": None}, {1: 2}])
def test_a_tensor_that_is_no_reference_is_refused(value):
    """Found by `make test-full`: these were TypeErrors."""
    with pytest.raises(PnpkitError):
        Gaussian(sigma=value)
