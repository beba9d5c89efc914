"""A problem handed over to the C++ backend."""

import json
from typing import Any
from weakref import WeakKeyDictionary

import torch

from pnpkit import native, registry
from pnpkit.likelihoods import Gaussian
from pnpkit.problem import Problem
from pnpkit.spec import encode

_twins: WeakKeyDictionary[Problem, Any] = WeakKeyDictionary()


def twin(problem: Problem) -> Any:
    """The same problem in C++, made once; None where its operator or noise has no twin there."""
    if problem not in _twins:
        _twins[problem] = _made(problem)
    return _twins[problem]


def _made(problem: Problem) -> Any:
    operator, likelihood = problem.operator, problem.likelihood
    name = registry.name_of(operator.kind, type(operator))
    if not (name and native.load().has_twin(name) and operator.dtype == torch.float32):
        return None
    if not isinstance(likelihood, Gaussian) or likelihood.per_element:
        return None
    spec, tensors = encode(operator)
    return native.load().Problem(
        json.dumps(spec), tensors, problem.y, likelihood.sigma, cg_tol=operator.cg.tol, cg_max_iter=operator.cg.max_iter
    )
