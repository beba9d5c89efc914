"""Everything pnpkit raises for a user's mistake.

A message says what was given, what was expected and what to do. ``exit_code`` is what the
command line returns for it.
"""

import difflib
from collections.abc import Iterable


class PnpkitError(Exception):
    """Base of all errors of the package."""

    exit_code = 2


class ShapeError(PnpkitError, ValueError):
    """A tensor has the wrong shape, dtype or device."""


class SpecError(PnpkitError, ValueError):
    """A parameter is unknown, missing, of the wrong type or out of its range."""


class RegistryError(PnpkitError, LookupError):
    """A name is not registered, or registered twice."""


class DataError(PnpkitError, ValueError):
    """A file or a measurement cannot be used as it is."""


class WeightsError(PnpkitError):
    """Weights are missing, corrupt, or belong to another architecture."""


class CapabilityError(PnpkitError):
    """The parts are valid, but this operator, prior, likelihood or solver cannot do that."""

    exit_code = 3


class DivergedError(PnpkitError, ArithmeticError):
    """Every sample of a solve left the finite range.

    Attributes: ``x`` (the last finite iterate, (B, *in_shape)) and ``step`` (where it happened).
    """

    exit_code = 4

    def __init__(self, message: str, x=None, step: int | None = None):
        super().__init__(message)
        self.x = x
        self.step = step

    def __reduce__(self):
        return (type(self), (self.args[0], self.x, self.step))


class ConvergenceWarning(UserWarning):
    """An inner linear solve stopped before its tolerance; the message says how far it got."""


def suggest(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for a near miss, else the list of what is known."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Known: {', '.join(known)}." if known else " Nothing is registered."
