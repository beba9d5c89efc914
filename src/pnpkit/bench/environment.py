"""The machine and the packages that results depend on."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pnpkit.bench.keys import code_version

PACKAGES = ("pnpkit", "torch", "numpy", "scipy", "deepinv", "sigpy", "finufft")


def environment(threads: int) -> dict[str, Any]:
    """Plain data to keep beside results."""
    return {
        "python": platform.python_version(), "system": platform.platform(), "cpu": cpu(), "threads": threads,
        "code": code_version(), "packages": {n: _version(n) for n in PACKAGES},
    }  # fmt: skip


def cpu() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
