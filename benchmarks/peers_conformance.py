"""The peers' operators through pnpkit's conformance suite: python benchmarks/peers_conformance.py

Writes docs/conformance_of_peers.md. Every object is small, made by the expression in the table, and passed through its
bridge; the checks are those of pnpkit's own operators. What only a registered component can do (be saved with its
specification) is left out.
"""

# ruff: noqa: F401  (the expressions below are evaluated)

import importlib.metadata
import warnings
from pathlib import Path
from typing import Any

import deepinv as dinv
import numpy as np
import sigpy as sp
import sigpy.mri
import torch
import torchkbnufft as tkbn

from pnpkit.bridges.deepinv import from_deepinv
from pnpkit.bridges.sigpy import from_sigpy
from pnpkit.bridges.torchkbnufft import from_torchkbnufft
from pnpkit.operators.base import Operator
from pnpkit.testing import run_checks

PAGE = Path(__file__).parents[1] / "docs" / "conformance_of_peers.md"
g = torch.Generator().manual_seed(0)
kernel = torch.rand(1, 1, 3, 3, generator=g)
mask = (torch.rand(1, 1, 12, 10, generator=g) > 0.4).float()
maps = torch.randn(1, 3, 12, 10, dtype=torch.complex64, generator=g)
filters, multipliers = torch.rand(1, 1, 2, 3, 3, generator=g), torch.rand(1, 1, 2, 12, 10, generator=g)
omega = (torch.rand(2, 40, generator=g) - 0.5) * 2 * np.pi
rng = np.random.default_rng(0)
coils = (rng.standard_normal((2, 12, 10)) + 1j * rng.standard_normal((2, 12, 10))).astype(np.complex64)
points = (rng.random((40, 2)) - 0.5) * [12, 10]
wave = (rng.standard_normal((3, 3)) + 0j).astype(np.complex64)

DEEPINV = {  # expression -> (image shape where the physics does not know it, complex images)
    "dinv.physics.BlurFFT(img_size=(1, 12, 10), filter=kernel)": (None, False),
    'dinv.physics.Blur(filter=kernel, padding="valid")': ((1, 12, 10), False),
    'dinv.physics.Blur(filter=kernel, padding="circular")': ((1, 12, 10), False),
    'dinv.physics.Blur(filter=kernel, padding="reflect")': ((1, 12, 10), False),
    'dinv.physics.Downsampling(img_size=(1, 12, 8), filter=kernel, factor=2, padding="circular")': (
        (1, 12, 8),
        False,
    ),
    'dinv.physics.Downsampling(img_size=(1, 24, 16), filter="bicubic", factor=2, padding="reflect")': (
        (1, 24, 16),
        False,
    ),
    "dinv.physics.Inpainting(img_size=(1, 12, 10), mask=mask[0])": (None, False),
    "dinv.physics.Demosaicing(img_size=(3, 12, 10))": (None, False),
    "dinv.physics.Decolorize()": ((3, 12, 10), False),
    "dinv.physics.MRI(mask=mask, img_size=(12, 10))": ((2, 12, 10), False),
    "dinv.physics.MultiCoilMRI(mask=mask, coil_maps=maps, img_size=(12, 10))": ((2, 12, 10), False),
    "dinv.physics.CompressedSensing(m=40, img_size=(1, 12, 10), rng=g)": (None, False),
    "dinv.physics.StructuredRandom(img_size=(1, 8, 8), output_size=(1, 8, 8), rng=g)": (None, False),
    "dinv.physics.SinglePixelCamera(m=40, img_size=(1, 8, 8), rng=g)": (None, False),
    'dinv.physics.SpaceVaryingBlur(filters=filters, multipliers=multipliers, padding="circular")': ((1, 12, 10), False),
    "dinv.physics.Tomography(angles=12, img_width=12, normalize=False)": ((1, 12, 12), False),
    "dinv.physics.Tomography(angles=12, img_width=12, circle=True, normalize=False, adjoint_via_backprop=False)": (
        (1, 12, 12),
        False,
    ),
    "dinv.physics.HyperSpectralUnmixing(E=3, C=5)": ((3, 8, 6), False),
    "dinv.physics.CompressiveSpectralImaging(img_size=(4, 8, 6), rng=g)": (None, False),
    "dinv.physics.RadioInterferometry(img_size=(12, 10), samples_loc=omega)": ((1, 12, 10), False),
    "dinv.physics.PtychographyLinearOperator(img_size=(1, 16, 16))": (None, True),
    "dinv.physics.RandomPhaseRetrieval(m=40, img_size=(1, 4, 4), rng=g)": (None, True),
}
SIGPY = (
    "sp.linop.FFT((1, 12, 10))",
    "sp.linop.Wavelet((12, 10))",
    "sp.linop.NUFFT((12, 10), points)",
    "sp.linop.FiniteDifference((12, 10))",
    "sp.linop.ConvolveData((12, 10), wave)",
    "sp.linop.Resize((8, 6), (12, 10))",
    "sp.linop.Downsample((12, 10), (2, 2))",
    "sp.linop.Interpolate((12, 10), points / 2 + 3)",
    "sp.mri.linop.Sense(coils)",
)
KBNUFFT = (
    "from_torchkbnufft(tkbn.KbNufft((12, 10)), tkbn.KbNufftAdjoint((12, 10)), omega)",
    "from_torchkbnufft(tkbn.KbNufft((12, 10)), tkbn.KbNufftAdjoint((12, 10)), omega, maps[0])",
)
DIRECT = """
import deepinv as dinv, torch

def mismatch(physics, *shape):  # of the two sides of <Ax, y> = <x, A'y>, of the norms
    torch.manual_seed(0)
    x = torch.randn(shape)
    y = torch.randn_like(physics.A(x))
    return float(abs((physics.A(x) * y).sum() - (x * physics.A_adjoint(y)).sum()) / (physics.A(x).norm() * y.norm()))

coded = dinv.physics.CompressiveSpectralImaging(img_size=(4, 8, 6), rng=torch.Generator().manual_seed(0))
ct = dinv.physics.Tomography(angles=12, img_width=12, circle=True, normalize=False, adjoint_via_backprop=False)
print(mismatch(coded, 1, 4, 8, 6), mismatch(ct, 1, 1, 12, 12))  # 0.35 and 0.0024; 0 for an adjoint, up to rounding

grey = dinv.physics.Decolorize()
z, y = torch.randn(1, 3, 12, 10), torch.randn(1, 1, 12, 10)
u = grey.prox_l2(z, y, gamma=1.0)
print(float((u - z + grey.A_adjoint(grey.A(u) - y)).norm() / z.norm()))  # 0.81; 0 at the minimiser
"""
READING = (  # what the failures mean; each was confirmed in the library itself, without the bridge
    "What matters to a user, each confirmed in the library itself, without the bridge:",
    "",
    "- `CompressiveSpectralImaging`: `A_adjoint` is not the adjoint of `A`; solvers that trust it do not minimise what",
    "  they state.",
    "- `Tomography(adjoint_via_backprop=False)` likewise, by 0.2 to 1 %; its default adjoint is exact, in float32.",
    "- `Decolorize.prox_l2` does not solve its problem.",
    "- `Tomography`, `RadioInterferometry` and `CompressedSensing` cannot be moved to float64 whole.",
    "- torchkbnufft's autograd functions are of the old kind, so `torch.func` transforms do not take them.",
    "",
    "Without pnpkit:",
    "",
    "```python",
    *DIRECT.strip().splitlines(),
    "```",
)
REGISTRY_ONLY = ("cannot be saved", "has no registered name")


def findings(operator: Operator) -> tuple[int, dict[str, str]]:
    """How many checks pass, and the messages of those that fail."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcomes = run_checks(operator)
    bad = {
        o.name: " ".join(o.message.split())
        for o in outcomes
        if o.bad and not any(w in o.message for w in REGISTRY_ONLY)
    }
    return sum(o.status == "passed" for o in outcomes), bad


def rows() -> list[tuple[str, str, Any]]:
    """(library, expression, its result or the reason why there is none) of every object."""
    found = []
    for expression, (shape, complex_) in DEEPINV.items():
        more = (f", in_shape={shape}" if shape else "") + (", complex=True" if complex_ else "")
        found.append(("deepinv", f"from_deepinv({expression}{more}).operator"))
    found += [("sigpy", f"from_sigpy({expression})") for expression in SIGPY]
    found += [("torchkbnufft", expression) for expression in KBNUFFT]
    results = []
    for library, call in found:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                results.append((library, call, findings(eval(call))))
        except Exception as error:
            results.append((library, call, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"))
        print(library, call, results[-1][2], flush=True)
    return results


def main() -> None:
    torch.set_num_threads(1)
    results = rows()
    versions = ", ".join(f"{n} {importlib.metadata.version(n)}" for n in ("deepinv", "sigpy", "torchkbnufft", "torch"))
    lines = [
        "# The peers' operators through our conformance suite",
        "",
        f"What `pnpkit check` asks of our operators, asked of theirs through the bridges: {versions}. Made by",
        "`python benchmarks/peers_conformance.py`, which holds the small inputs that the expressions name; each row is",
        "reproduced by `run_checks(…)` of `pnpkit.testing` on its expression. Checks compare in float32 and float64,",
        "for several batch sizes, strides and edge cases; messages below are the suite's own.",
        "",
        *READING,
        "",
        "| library | object | passed | failed |",
        "|---|---|---|---|",
    ]
    details = []
    for library, call, result in results:
        shown = call.replace("|", "\\|")
        if isinstance(result, str):
            lines.append(f"| {library} | `{shown}` | – | cannot be bridged: {result} |")
            continue
        passed, bad = result
        lines.append(f"| {library} | `{shown}` | {passed} | {', '.join(f'`{n}`' for n in bad) or 'none'} |")
        if bad:
            details += [f"### `{shown}`", "", "```text", *(f"{n}: {m}" for n, m in bad.items()), "```", ""]
    PAGE.write_text("\n".join([*lines, "", "## What failed", "", *details]).rstrip() + "\n")


if __name__ == "__main__":
    main()
