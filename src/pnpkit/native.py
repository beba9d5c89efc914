"""The C++ backend: finds its sources, builds it, loads it, and says why not.

The sources are in ``native/`` of the checkout, and in the wheel. What is built is kept in a cache folder, under a key
of the sources, torch and Python; it is never built behind the user's back.
"""

import copyreg
import fcntl
import functools
import hashlib
import importlib.util
import logging
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch

from pnpkit.errors import CapabilityError

Backend = Literal["python", "native", "auto"]
BUILD = "pnpkit native build"
NAME = "_pnpkit_native"
COMPLETE = "complete"  # a file that says that a build has ended
log = logging.getLogger("pnpkit")


def sources() -> Path:
    """The folder of CMakeLists.txt: in the installed package, or in the checkout that it is run from."""
    here = Path(__file__).parent
    for folder in (here / "_native_sources", here.parents[1] / "native"):
        if (folder / "CMakeLists.txt").is_file():
            return folder
    raise CapabilityError(f"The C++ sources are not beside {here}; reinstall pnpkit.")


def key() -> str:
    """sha256 over the sources and what they are built against, and where: programs find their libraries by path."""
    places = f"{sources()} {torch.__path__[0]} {sys.prefix}"
    digest = hashlib.sha256(f"{torch.__version__} {sys.version} {platform.machine()} {places}".encode())
    for path in sorted(p for p in sources().rglob("*") if p.suffix in (".cpp", ".h", ".txt")):
        digest.update(path.relative_to(sources()).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def folder() -> Path:
    """Where this version is, or will be, built: in PNPKIT_NATIVE, else in the user's cache."""
    root = os.environ.get("PNPKIT_NATIVE")
    return (Path(root) if root else Path.home() / ".cache" / "pnpkit" / "native") / key()


def program(name: str = "pnpkit-infer") -> Path:
    """A program of the built backend; CapabilityError when it is not built."""
    _require_built()
    return folder() / name


def build(report: Callable[[str], None] = print, sanitize: bool = False) -> Path:
    """Build with CMake and Ninja, or find it built; the folder. With ``sanitize`` the programs only, beside it.

    CapabilityError with what is missing (compiler, CMake, Ninja, nlohmann_json) or the compiler's own words.
    """
    target = folder().with_name(f"{folder().name}-sanitized") if sanitize else folder()
    if _built(target):
        report(f"already built: {target}")
        return target
    if missing := lacking():
        raise CapabilityError(f"The native backend cannot be built: {' '.join(missing)}")
    target.mkdir(parents=True, exist_ok=True)
    configure = [
        tool("cmake"), "-S", str(sources()), "-B", str(target), "-G", "Ninja",
        f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}", f"-DPNPKIT_TORCH={torch.__path__[0]}",
        f"-DPNPKIT_JSON={_json_include()}", f"-DPNPKIT_SANITIZE={'ON' if sanitize else 'OFF'}",
        *([] if sanitize else [f"-DPNPKIT_PYTHON={sys.executable}"]),
    ]  # fmt: skip
    report(f"building {sources()} in {target}, about half a minute")
    with (target / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be building
        for command in (configure, [tool("cmake"), "--build", str(target), "--parallel", str(_jobs())]):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                said = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
                raise CapabilityError(f"The native backend does not build. {' '.join(command)} said:\n{said}")
        (target / COMPLETE).touch()
    return target


def lacking() -> list[str]:
    """What a build needs and this machine has not, one sentence each."""
    sentences = []
    if not (os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")):
        sentences.append("There is no C++ compiler (Debian: apt install g++).")
    sentences += [
        f"There is no {name} (pip install 'pnpkit[native]')."
        for name in ("cmake", "ninja")
        if not shutil.which(tool(name))
    ]
    if _json_include() is None:
        sentences.append("nlohmann/json is missing (pip install 'pnpkit[native]').")
    return sentences


@functools.cache
def load() -> ModuleType:
    """The extension module; CapabilityError with the reason and the command that mends it."""
    _require_built()
    path = folder() / f"{NAME}.so"
    spec = importlib.util.spec_from_file_location(NAME, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        raise CapabilityError(f"{path} does not load ({error}). Delete {path.parent} and run `{BUILD}`.") from error
    copyreg.pickle(module.Network, lambda made: (_network, (made.path, made.bf16)))  # and for copies
    return module


def absent() -> str | None:
    """Why there is no native backend, or None."""
    try:
        load()
    except CapabilityError as error:
        return str(error)
    return None


def network(backend: Backend, weights: Path, bf16: bool | None = None) -> Any:
    """The network of a weights file or a package; None for Python, and for "auto" where there is no native one.

    bf16 : None for a package's own arithmetic.
    """
    if backend == "python":
        return None
    try:
        made = _network(str(weights), bf16)
    except CapabilityError as error:
        if backend == "native":
            raise
        log.info("%s runs in Python: %s", weights.name, error)
        return None
    log.info("%s runs natively: %s", weights.name, made.engine)
    return made


def _network(path: str, bf16: bool | None) -> Any:
    return load().Network(path, bf16=bf16)


def takes(backend: Backend, *tensors: torch.Tensor) -> bool:
    """Whether the native code can run on these; CapabilityError where it was asked for by name and cannot."""
    if is_paused():
        return False
    reason = None
    if any(t.device.type != "cpu" or t.dtype not in (torch.float32, torch.complex64) for t in tensors):
        reason = "works on float32 and complex64 tensors on the CPU"
    elif any(_tracked(t) for t in tensors):
        reason = "has no gradients"
    if reason and backend == "native":
        raise CapabilityError(f"The native backend {reason}; use backend='auto', which then takes Python, or 'python'.")
    return reason is None


_PAUSED: ContextVar[bool] = ContextVar("pnpkit_native_paused", default=False)


@contextmanager
def paused() -> Iterator[None]:
    """Whatever would run in C++ runs in Python: to trace it, or to compare with it."""
    token = _PAUSED.set(True)
    try:
        yield
    finally:
        _PAUSED.reset(token)


def is_paused() -> bool:
    return _PAUSED.get()


def _tracked(t: torch.Tensor) -> bool:
    return (torch.is_grad_enabled() and t.requires_grad) or torch._C._functorch.is_functorch_wrapped_tensor(t)  # type: ignore[attr-defined]


def _require_built() -> None:
    if not _built(folder()):
        raise CapabilityError(
            f"The native backend is not built for this torch ({torch.__version__}) and these sources. Run `{BUILD}`."
        )


def _built(target: Path) -> bool:
    return (target / COMPLETE).is_file()


def tool(name: str) -> str:
    """A program of this environment, else of the system."""
    own = Path(sys.executable).parent / name
    return str(own) if own.is_file() else shutil.which(name) or name


def _json_include() -> Path | None:
    spec = importlib.util.find_spec("nlohmann_json")
    places = [Path(p) / "include" for p in (spec.submodule_search_locations or [])] if spec else []
    return next((p for p in (*places, Path("/usr/include")) if (p / "nlohmann" / "json.hpp").is_file()), None)


def _jobs() -> int:
    return max(1, min(4, os.cpu_count() or 1))
