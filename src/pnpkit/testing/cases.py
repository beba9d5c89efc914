"""The small problems that solvers are checked on, made to what each one needs."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from pnpkit import registry
from pnpkit.priors.base import Prior, Priors
from pnpkit.problem import Problem
from pnpkit.solvers.base import Solver, missing, solve
from pnpkit.solvers.result import Result
from pnpkit.testing.core import Skip
from pnpkit.testing.problems import IsotropicGaussian, IsotropicPosterior, Quadratic, blurred_problem, mixing_problem


class Case(NamedTuple):
    """A problem and a prior that the solver's ``needs`` accept."""

    problem: Problem
    prior: Prior | Priors | None


def wanted_of(solver: Solver, subject: str) -> set[str]:
    """What may satisfy the solver on this subject, alternatives included."""
    return {option for want in solver.needs.get(subject, ()) for option in want.split("|")}


def noise_of(solver: Solver) -> str:
    """The likelihood of its standard problem."""
    wants = wanted_of(solver, "likelihood")
    return "poisson" if wants and "gaussian" not in wants else "gaussian"


def case_for(
    solver: Solver,
    dtype: torch.dtype = torch.float32,
    n: int = 3,
    c: float = 1.0,  # images (and prior) c times as large
    noise: str | None = None,
    offer: str | None = None,  # which of the alternatives for the prior
) -> Case:
    """The standard problem, made to what the solver needs."""
    if other := [s for s in solver.needs if s.startswith("prior.")]:
        return blind_case(solver, other[0], dtype, n, c)
    prior = prior_for(solver, c, offer)
    shape = (1, 4, 4) if prior is None or type(prior).__module__.startswith("pnpkit.testing") else prior.example_shape
    problem = mixing_problem(shape, n, dtype, noise or noise_of(solver))
    prior = None if prior is None else prior.to(dtype.to_real())
    if reason := missing(solver, problem, prior):
        raise Skip(f"the suite has no problem for it: {' '.join(reason)}")
    return Case(problem if c == 1.0 else problem.scaled(c), prior)


def blind_case(solver: Solver, subject: str, dtype: torch.dtype, n: int, c: float) -> Case:
    """An image 4×4 blurred by an unknown kernel 3×3, independent Gaussian pixels in both."""
    if subject != "prior.theta" or wanted_of(solver, subject) != {"denoise"}:
        raise Skip(f"needs {subject}, which the suite has no problem for")
    problem = blurred_problem(n, dtype.to_real())
    on_x, on_theta = IsotropicGaussian(mean=0.5 * c, std=0.4 * c), IsotropicGaussian(mean=1 / 9, std=0.1)
    priors = Priors(x=on_x.to(dtype.to_real()), theta=on_theta.to(dtype.to_real()))
    if reason := missing(solver, problem, priors):
        raise Skip(f"the suite has no problem for it: {' '.join(reason)}")
    return Case(problem if c == 1.0 else problem.scaled(c), priors)


def prior_for(solver: Solver, c: float = 1.0, offer: str | None = None) -> Prior | None:
    """A reference prior that provides what is needed, or a registered one, for images c times as large."""
    wants = wanted_of(solver, "prior")
    if not wants:
        return None
    known = {
        "prox": lambda: Quadratic(weight=2.0 / c**2, mean=0.5 * c),
        "denoise": lambda: IsotropicGaussian(mean=0.5 * c, std=0.4 * c),
        "posterior_denoise": lambda: IsotropicPosterior(mean=0.5 * c, std=0.4 * c),
    }
    for name, make in known.items():
        if name in wants and offer in (None, name):
            return make()
    for name in registry.names("priors"):
        cls = registry.get("priors", name)
        if wants & set(cls.provides):
            example = cls.example()
            scaled = {"weight": example.weight / c} if "weight" in type(example.spec).model_fields else {}
            return cls(**{**dict(example.spec), **scaled})
    raise Skip(f"no registered prior provides {' or '.join(sorted(wants))}")


def with_settings(solver: Solver, **changes: Any) -> Any:
    """The same solver with some hyper-parameters changed."""
    return type(solver)(**{**dict(solver.spec), **changes})


def run_case(solver: Solver, case: Case, seed: int = 0, **options: Any) -> Result:
    """``solve`` on a case."""
    return solve(case.problem, case.prior, solver, seed=seed, **options)


def tensors_of(value: Any) -> Iterator[torch.Tensor]:
    """All tensors of a state: NamedTuples, tuples, lists and dicts of them."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors_of(part)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors_of(part)


def is_random(solver: Solver, case: Case) -> bool:
    """Whether the seed makes a difference."""
    one, two = (run_case(with_settings(solver, n_steps=2), case, seed).x for seed in (1, 2))
    return not torch.equal(one, two)
