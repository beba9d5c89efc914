"""The shipped conformance suite: what every component must do, checked on every registered one.

``pnpkit check NAME`` and ``pytest --pyargs pnpkit.testing`` run it on registered components, third
parties' included; ``assert_conforms(component)`` runs it on one object in a test. A component that
cannot meet a check says so in ``expected_failures = {check name: reason}``, which is a strict xfail.
"""

from pnpkit.testing import (  # noqa: F401  (importing them registers their checks)
    checks_functions,
    checks_likelihoods,
    checks_linear,
    checks_modules,
    checks_operators,
    checks_priors,
    checks_proximable,
    checks_solutions,
    checks_solvers,
    checks_theta,
    checks_weights,
)
from pnpkit.testing.core import (
    Check,
    ConformanceError,
    Outcome,
    Report,
    Skip,
    assert_conforms,
    check,
    check_all,
    check_names,
    check_registered,
    checks_for,
    run_checks,
    selected,
)

__all__ = [
    "Check",
    "ConformanceError",
    "Outcome",
    "Report",
    "Skip",
    "assert_conforms",
    "check",
    "check_all",
    "check_names",
    "check_registered",
    "checks_for",
    "run_checks",
    "selected",
]
