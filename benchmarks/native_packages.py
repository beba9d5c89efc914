"""Denoisers of other architectures, compiled: PNPKIT_DATA=… python benchmarks/native_packages.py

Packages of `pnpkit native export`: one call at 256×256 against the same prior in eager float32, side by side; seconds
to load; what compiling takes.
"""

import itertools
import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from timing import compare, write_report

from pnpkit import native, registry
from pnpkit.native_package import export
from pnpkit.priors import Packaged
from pnpkit.priors.base import Denoiser
from pnpkit.priors.weights import convert, find

THREADS, SIZE, REPEATS = 4, 256, 11
KINDS = {"any size": None, f"{SIZE}×{SIZE}": (SIZE, SIZE)}


def specs(folder: Path) -> dict[str, dict[str, Any]]:
    """The priors; DRUNet's weights are random, as no trained ones are here: they do not change its time."""
    convert(find("dncnn_25.pth"), folder / "dncnn_25.safetensors")
    from deepinv.models import DRUNet as Network

    torch.manual_seed(0)
    save_file(Network(in_channels=1, out_channels=1, pretrained=None).state_dict(), folder / "drunet.safetensors")
    return {
        "FFDNet": {"name": "ffdnet", "weights": "FFDNet_gray.npz"},
        "DnCNN": {"name": "dncnn", "weights": str(folder / "dncnn_25.safetensors")},
        "DRUNet (random weights)": {"name": "drunet", "weights": str(folder / "drunet.safetensors")},
    }


def rows_of(name: str, spec: dict[str, Any], x: torch.Tensor) -> list[dict[str, Any]]:
    priors: dict[str, Denoiser] = {"eager float32": registry.prior(spec)}
    told: dict[str, dict[str, float]] = {"eager float32": {}}
    for dtype, kind in itertools.product(("fp32", "bf16"), KINDS):
        folder = Path(tempfile.mkdtemp())
        began = time.perf_counter()
        export(json.dumps(spec), folder, dtype, [KINDS[kind]])
        made = time.perf_counter()
        variant = f"package {dtype}, {kind}"
        loading = time.perf_counter()
        priors[variant] = Packaged(path=str(folder))
        told[variant] = {"export [s]": made - began, "load [s]": time.perf_counter() - loading}
    exact = priors["eager float32"](x, 0.1)
    times = compare({n: partial(p, x, 0.1) for n, p in priors.items()}, REPEATS, THREADS)
    return [
        {
            "prior": name, "variant": n, "seconds": times[n], "times as fast": times["eager float32"] / times[n],
            "largest difference": float((p(x, 0.1) - exact).abs().max()), **told[n],
        }
        for n, p in priors.items()
    ]  # fmt: skip


def main() -> None:
    torch.set_num_threads(THREADS)
    native.load()
    folder = Path(tempfile.mkdtemp())
    x = torch.rand(1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    rows = [row for name, spec in specs(folder).items() for row in rows_of(name, spec, x)]
    notes = [f"One image {SIZE}×{SIZE}, {THREADS} threads, medians of {REPEATS} interleaved runs."]
    write_report("native_packages", rows, "python benchmarks/native_packages.py", notes, "Compiled denoisers")


if __name__ == "__main__":
    main()
