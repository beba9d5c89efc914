"""Fetching weights: resumed where it broke off, verified before it is used."""

import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from pnpkit.errors import WeightsError

BLOCK = 1 << 20


def cache_folder() -> Path:
    """PNPKIT_WEIGHTS, else pnpkit's folder in the user's cache."""
    if folder := os.environ.get("PNPKIT_WEIGHTS"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pnpkit" / "weights"


def download(
    url: str,
    target: Path,
    sha256: str,
    progress: Callable[[int, int | None], None] | None = None,
    timeout_s: float = 30.0,
) -> Path:
    """``target``, fetched from ``url`` unless it is there with this sha256.

    What was fetched is kept in TARGET.part until it is whole and verified, and the next call goes on from there.
    progress : called with the bytes so far and the whole size (None where the server does not tell).
    """
    from pnpkit.priors.weights import file_digest

    if target.is_file() and file_digest(target) == sha256:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    try:
        _fetch(url, part, progress, timeout_s)
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise WeightsError(
            f"{url} cannot be fetched: {reason}. {_so_far(part)}Without a connection, fetch it elsewhere and put it to "
            f"{target} (sha256 {sha256[:16]}…)."
        ) from error
    if (found := file_digest(part)) != sha256:
        part.unlink()
        raise WeightsError(
            f"{url} has sha256 {found[:16]}…, expected {sha256[:16]}…: another version, or it was damaged on the way. "
            "It was deleted; try again, or ask who made the card."
        )
    part.replace(target)
    return target


def _so_far(part: Path) -> str:
    return f"{part.stat().st_size} bytes are kept in {part} and the next try goes on. " if part.is_file() else ""


def _fetch(url: str, part: Path, progress: Callable[[int, int | None], None] | None, timeout_s: float) -> None:
    """Append what is missing; from the beginning where the server cannot resume."""
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is missing, or the file has changed: the checksum tells
            return
        raise
    with answer:
        resumed = answer.status == 206
        left = answer.headers.get("Content-Length")
        whole = int(left) + (have if resumed else 0) if left else None
        done = have if resumed else 0
        with part.open("ab" if resumed else "wb") as file:
            while block := answer.read(BLOCK):
                file.write(block)
                done += len(block)
                if progress is not None:
                    progress(done, whole)
        if whole is not None and done < whole:
            raise OSError(f"the connection broke off after {done} of {whole} bytes")
