"""pnpkit: any forward operator × any prior × any solver, for imaging inverse problems.

Public names are imported on first use (PEP 562), so ``import pnpkit`` costs what
``import torch`` costs.
"""

import importlib

import torch  # noqa: F401  (everything here is built on it; nothing else is imported eagerly)

__version__ = "0.1.0"

_PUBLIC = {
    "compose": "pnpkit.composition",
    "Reconstructor": "pnpkit.composition",
    "operator": "pnpkit.registry",
    "prior": "pnpkit.registry",
    "solver": "pnpkit.registry",
    "likelihood": "pnpkit.registry",
    "make": "pnpkit.registry",
    "Gaussian": "pnpkit.likelihoods",
    "Poisson": "pnpkit.likelihoods",
    "Transmission": "pnpkit.likelihoods",
    "SplitLikelihood": "pnpkit.likelihoods",
    "Problem": "pnpkit.problem",
    "ProblemGroup": "pnpkit.problem",
    "Priors": "pnpkit.priors.base",
    "Stack": "pnpkit.operators.algebra",
    "Result": "pnpkit.solvers.base",
    "iterate": "pnpkit.solvers.base",
    "solve": "pnpkit.solvers.base",
}
_MODULES = (
    "operators", "priors", "solvers", "likelihoods", "linalg", "metrics", "io", "errors",
    "testing", "registry", "spec", "tuning",
)  # fmt: skip

__all__ = [*_PUBLIC, *_MODULES, "__version__"]


def __getattr__(name: str):
    if name in _PUBLIC:
        value = getattr(importlib.import_module(_PUBLIC[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"pnpkit.{name}")
    else:
        raise AttributeError(f"module 'pnpkit' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
