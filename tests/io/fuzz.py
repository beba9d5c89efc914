"""Worker of test_fuzz.py: reads mutated copies of one valid file, and says what went wrong.

Run as ``python fuzz.py READER VALID FIRST COUNT``: mutation i is made from its number alone, so a failure is reproduced
by its number. Prints the number before each file, so that a crash or a hang is known by the last one.
"""

import resource
import shutil
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from pnpkit import registry
from pnpkit.errors import DataError
from pnpkit.io import FastMRI, info

MEMORY = 1 << 30  # bytes beyond what the imports take
SECONDS = 5.0  # a file


def mutated(raw: bytes, i: int) -> bytes:
    """Mutation i: bytes changed (often in the header), cut, doubled, or put in."""
    rng = np.random.default_rng(i)
    data = bytearray(raw)
    for _ in range(int(rng.integers(1, 5))):
        end = len(data) if rng.random() < 0.5 else min(len(data), 512)
        if end == 0:
            break
        at, kind = int(rng.integers(end)), rng.integers(6)
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[at] = int(rng.choice([0, 1, 127, 128, 255]))
        elif kind == 2:
            data[at : at + 4] = rng.integers(0, 256, 4, dtype=np.uint8).tobytes()
        elif kind == 3:
            del data[at : None if rng.random() < 0.3 else at + int(rng.integers(1, 64))]
        elif kind == 4:
            data[at:at] = data[at : at + int(rng.integers(1, 64))]
        else:
            data[at : at + 8] = b"\xff" * 8
    return bytes(data)


def read(name: str, path: Path) -> None:
    """Everything that a user can ask of the file."""
    if name == "fastmri":
        scan = FastMRI(path)
        for i in range(min(len(scan), 2)):
            scan.kspace(i), scan.target(i)
        scan.mask()
        return
    key = {"npz": "a", "mat": "a", "mat73": "a", "h5": "a"}.get(name)
    registry.get("readers", {"mat73": "mat"}.get(name, name))(path, key)


def one(name: str, path: Path) -> str | None:
    """What is wrong with how the file was refused, or None."""
    for look in (lambda: read(name, path), lambda: info(path)):
        began = time.monotonic()
        try:
            look()
        except DataError as error:
            if "\n" in str(error) or path.stem not in str(error):
                return f"a message of several lines, or without the file's name: {error}"
        except Exception as error:
            return f"{type(error).__module__}.{type(error).__name__}: {error}"
        if time.monotonic() - began > SECONDS:
            return f"took {time.monotonic() - began:.1f} s"
    return None


def main() -> None:
    name, valid, first, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    warnings.simplefilter("ignore")
    warnings.showwarning = lambda *_: None
    path = target = valid.with_name(f"fuzzed_{first}{''.join(valid.suffixes)}")
    raw = valid.read_bytes()
    if name == "cfl":  # its header is what is parsed
        shutil.copy(valid, path)
        target, raw = path.with_suffix(".hdr"), valid.with_suffix(".hdr").read_bytes()
    read_valid = one(name, valid)
    assert read_valid is None, read_valid
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    for i in range(first, first + count):
        print(i, flush=True)
        target.write_bytes(mutated(raw, i))
        if wrong := one(name, path):
            print(f"WRONG {i}: {wrong[:300]}", flush=True)
    print("done", flush=True)


if __name__ == "__main__":
    main()
