"""What all readers share: one-line errors, and the way into a container by a key."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pnpkit.errors import DataError, PnpkitError, suggest

DEFLATE = 1100  # the most that gzip and its kin compress, about


@contextmanager
def opened(path: str | Path, what: str) -> Iterator[Path]:
    """The path of an existing file; whatever its parser raises inside becomes a DataError that names it.

    Every exception, not a list: parsers meet damaged files with what they happen to run into (the fuzz tests saw
    RuntimeError, TypeError, KeyError, zlib.error, tokenize.TokenError and more). The cause stays chained.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"File {path} does not exist (looked from {Path.cwd()}).")
    try:
        yield path
    except PnpkitError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise DataError(
            f"{path} cannot be read as {what} (truncated, or another format): {reason}. Copy it again or convert it."
        ) from error


def plausible_size(path: Path, shape: Sequence[int], itemsize: int) -> None:
    """Refuse a header that promises more than the file can hold, before memory is taken for it."""
    wanted, given = math.prod(shape) * itemsize, path.stat().st_size
    if wanted > DEFLATE * given:
        raise DataError(
            f"{path}: its header promises {tuple(shape)}, {wanted} bytes; a file of {given} bytes cannot hold them. "
            "It is damaged; copy it again."
        )


def choose(path: Path, names: Iterable[str], key: str | None) -> str:
    """The name meant by ``key``: itself when it is there, the only one when it is None."""
    names = sorted(names)
    if key is not None:
        if key not in names:
            raise DataError(f"{path} holds no {key!r}.{suggest(key, map(printable, names))}")
        return key
    if len(names) != 1:
        raise DataError(f"{path} holds {len(names)} arrays: {listed(names)}. Say which with 'key'.")
    return names[0]


def printable(name: object) -> str:
    """A name from a file, fit for a message of one line."""
    return str(name) if str(name).isprintable() else ascii(name)


def listed(names: Iterable[object]) -> str:
    """The first names, and how many more there are."""
    names = [printable(n) for n in names]
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def no_key(path: str | Path, key: str | None) -> None:
    """Refuse a key where the file holds one array."""
    if key is not None:
        raise DataError(f"{path} holds one array and no {key!r}; leave 'key' out.")


def walk(path: Path, value: Any, name: str, steps: list[str], enter: Callable[[Any, str], Any]) -> Any:
    """``enter`` the value called ``name`` by each step in turn; None from it: there is no such step."""
    for step in steps:
        inside = enter(value, step)
        if inside is None:
            raise DataError(f"{path}: {name or 'the file'} has no {step!r}; it {_content(value)}.")
        value, name = inside, f"{name}/{step}".lstrip("/")
    return value


def _content(value: Any) -> str:
    if names := getattr(getattr(value, "dtype", None), "names", None):
        return f"has {listed(names)}"
    if hasattr(value, "keys"):
        return f"has {listed(value.keys()) or 'nothing inside'}"
    if value.dtype == object:
        return f"has entries 0 to {value.size - 1}"
    return f"is an array {tuple(value.shape)}, where the key must end"


def numeric(path: Path, value: Any, key: str | None) -> np.ndarray:
    """A numeric array, or DataError."""
    array = np.asarray(value)
    if array.dtype.kind not in "biufc":
        label = f"{key!r}" if key else "its content"
        inside = listed(array.dtype.names or ()) or (f"0 to {array.size - 1}" if array.dtype.kind == "O" else "")
        hint = f" Inside are {inside}: name one, as in 'key/{inside.split(',')[0].split()[0]}'." if inside else ""
        raise DataError(f"{path}: {label} is not a numeric array ({array.dtype}).{hint}")
    return array
