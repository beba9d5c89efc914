"""What a bridge adds to a call: python benchmarks/bridge_overhead.py

Differences of interleaved medians: through the bridge, less the wrapped object called by itself on the same memory.
"""

import deepinv as dinv
import numpy as np
import scipy.sparse
import sigpy as sp
import torch
import torchkbnufft as tkbn
from timing import compare, write_report

import pnpkit as pk
from pnpkit.bridges.deepinv import denoiser_from_deepinv, from_deepinv, to_deepinv
from pnpkit.bridges.scipy import from_scipy, to_scipy
from pnpkit.bridges.sigpy import from_sigpy, to_sigpy
from pnpkit.bridges.torchkbnufft import from_torchkbnufft
from pnpkit.priors.base import Domain


def cases() -> dict:
    """name -> (through the bridge, by itself): the cheapest calls, where overhead shows."""
    x, wave = torch.rand(1, 1, 32, 32), torch.randn(1, 1, 32, 32, dtype=torch.complex64)
    array, complex_array = x[0].numpy(), wave[0].numpy()
    mask = (torch.rand(1, 32, 32) > 0.5).float()
    physics = dinv.physics.Inpainting(img_size=(1, 32, 32), mask=mask)
    inpainting = pk.operators.Inpainting(mask=mask)
    matrix = scipy.sparse.diags(np.arange(1024, dtype=np.float32)).tocsr()
    linop = sp.linop.Multiply((1, 32, 32), np.ones((1, 32, 32), dtype=np.complex64))
    omega = torch.rand(2, 64) * 6 - 3
    pair = tkbn.KbNufft((32, 32)), tkbn.KbNufftAdjoint((32, 32))
    median = dinv.models.MedianFilter(kernel_size=1)
    ours = {
        "from_deepinv": from_deepinv(physics).operator,
        "from_scipy": from_scipy(matrix, in_shape=(1, 32, 32)),
        "from_sigpy": from_sigpy(linop),
        "from_torchkbnufft": from_torchkbnufft(*pair, omega),
        "denoiser_from_deepinv": denoiser_from_deepinv(median, Domain((1, None, None))),
    }
    back = {"deepinv": to_deepinv(inpainting), "scipy": to_scipy(inpainting), "sigpy": to_sigpy(inpainting)}
    flat = array.ravel()
    return {
        "from_deepinv": (lambda: ours["from_deepinv"](x), lambda: physics.A(x)),
        "to_deepinv": (lambda: back["deepinv"].A(x), lambda: inpainting(x)),
        "denoiser_from_deepinv": (lambda: ours["denoiser_from_deepinv"](x, 0.1), lambda: median(x, 0.1)),
        "from_scipy": (lambda: ours["from_scipy"](x), lambda: matrix @ flat),
        "to_scipy": (lambda: back["scipy"].matvec(flat), lambda: inpainting(x)),
        "from_sigpy": (lambda: ours["from_sigpy"](wave), lambda: linop(complex_array)),
        "to_sigpy": (lambda: back["sigpy"](array), lambda: inpainting(x)),
        "from_torchkbnufft": (lambda: ours["from_torchkbnufft"](wave), lambda: pair[0](wave, omega)),
    }


def main() -> None:
    rows = []
    for name, (bridged, plain) in cases().items():
        seconds = compare({"bridged": bridged, "plain": plain}, 301)
        row = {"bridge": name, "alone µs": 1e6 * seconds["plain"], "bridged µs": 1e6 * seconds["bridged"]}
        rows.append(row | {"added µs": 1e6 * (seconds["bridged"] - seconds["plain"])})
    notes = ["32×32 images, one thread, medians of 301. from_*: includes our checks of shape, dtype and device."]
    write_report("bridge_overhead", rows, "python benchmarks/bridge_overhead.py", notes)


if __name__ == "__main__":
    main()
