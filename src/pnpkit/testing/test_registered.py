"""``pytest --pyargs pnpkit.testing``: the suite on every registered component, third parties' included.

``-k blur`` selects by name; the environment variable PNPKIT_CHECK, a comma-separated list of names or
of installed packages ("blur,my-plugin"), by what it names.
"""

import os

import pytest

from pnpkit.testing.core import check_registered, selected

CHOSEN = [name for name in os.environ.get("PNPKIT_CHECK", "").split(",") if name]
COMPONENTS = selected(CHOSEN)


@pytest.mark.parametrize(("kind", "name"), COMPONENTS, ids=[f"{k}/{n}" for k, n in COMPONENTS])
def test_registered_component_conforms(kind: str, name: str) -> None:
    report = check_registered(kind, name)
    if all(o.status == "skipped" for o in report.outcomes):
        pytest.skip("; ".join(f"{o.name}: {o.message}" for o in report.outcomes) or "no check applies")
    lines = [f"{o.name} ({o.status}): {o.message}" for o in report.outcomes if o.bad]
    assert report.ok, "\n".join(lines)
