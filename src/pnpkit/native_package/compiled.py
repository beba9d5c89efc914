"""A denoiser of any architecture as machine code: torch.export, then AOTInductor, then compared with Python."""

import ctypes
import itertools
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from pnpkit import native
from pnpkit.errors import CapabilityError
from pnpkit.priors.base import Denoiser
from pnpkit.priors.networks.edm import arithmetic_of

Dtype = Literal["fp32", "bf16"]
Size = tuple[int, int]  # height and width
MULTIPLES = (1, 2, 4, 8, 16, 32, 64)  # that a network may need its sides to be of, tried in this order
LEAST = (8, 32)  # sides in pixels, likewise
LARGEST, BATCHES = 8192, 1024  # sides; images at once
ARITHMETIC = {"fp32": "float32", "bf16": "bfloat16"}
TOLERANCE = {"fp32": 1e-5, "bf16": 1e-2}  # root mean square of the difference, over that of the images
WORDS = ("avx", "sse", "ssse", "fma", "f16c", "bmi", "amx", "gfni", "vaes", "vpclmul", "sha", "asimd", "sve", "i8mm")


def compile_network(prior: Denoiser, folder: Path, dtype: Dtype, sizes: Sequence[Size | None]) -> dict[str, Any]:
    """Write ``folder``/network_*.pt2, one for each size, None for any; what package.json says about them.

    CapabilityError where torch.export or AOTInductor cannot, or where the code's results are not Python's.
    """
    domain = prior.domain
    channels = domain.shape[0] if domain.shape else None
    if domain.dtype != torch.float32 or channels is None:
        raise CapabilityError(
            f"{type(prior).__name__} works on {domain.dtype} images of {channels or 'any number of'} channels; only "
            "networks on float32 images of a fixed number of channels are compiled."
        )
    low, high = domain.sigma_range
    if not 0 < low <= high < math.inf:
        raise CapabilityError(f"{type(prior).__name__} has no finite range of noise levels above 0.")
    module = _Plain(prior, dtype, channels).eval()
    with native.paused():
        compiled = [_compiled(module, folder, size) for size in sizes]
    return {
        "compiled": compiled,
        "dtype": dtype,
        "channels": channels,
        "sigma_range": [low, high],
        "value_range": domain.value_range,
        "torch": torch.__version__.split("+")[0],
        "cpu": instructions(),
    }


def instructions() -> list[str]:
    """The instruction sets of this processor, as Linux names them: the code may use any of them."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    words = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return sorted(w for w in words if w.startswith(WORDS))


class _Plain(nn.Module):
    """The denoiser on tensors alone, without the checks."""

    def __init__(self, prior: Denoiser, dtype: Dtype, channels: int):
        super().__init__()
        self.prior, self.dtype, self.channels = prior, dtype, channels

    def forward(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        with arithmetic_of(ARITHMETIC[self.dtype], x.device):
            return self.prior._denoise(x, sigma).float()

    def probe(self, batch: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng, (low, high) = torch.Generator().manual_seed(0), self.prior.domain.value_range or (0.0, 1.0)
        x = low + (high - low) * torch.rand(batch, self.channels, height, width, generator=rng)
        return x, torch.full((batch,), self.prior.fit_sigma(0.1 * (high - low)))


def _compiled(module: _Plain, folder: Path, size: Size | None) -> dict[str, Any]:
    """What package.json says about the code for one size."""
    if size is None:
        exported, multiple, least = _for_any_size(module)
        about: dict[str, Any] = {"file": "network_any.pt2", "multiple": multiple, "least": least}
        probes = [(2, 2 * least, 3 * least), (1, least + multiple, least)]
    else:
        exported, probes = _exported(module, (1, *size)), [(1, *size)]
        about = {"file": f"network_{size[0]}x{size[1]}.pt2", "size": list(size)}
    options = {
        "freezing": size is not None,  # weights packed for their convolutions; with free sizes torch 2.15 errs then
        "cpp.dynamic_threads": True,  # those of the process that runs it, not of this one
        "aot_inductor.link_libtorch": False,  # found in the process: libtorch.so would load CUDA's libraries
    }
    ctypes.CDLL("libtorch_cpu.so", mode=os.RTLD_NOLOAD | os.RTLD_GLOBAL)  # so it is found here
    with torch.no_grad():
        try:
            file = torch._inductor.aoti_compile_and_package(
                exported, package_path=str(folder / about["file"]), inductor_configs=options
            )
        except Exception as error:  # of many kinds, from many layers of the compiler
            raise CapabilityError(f"AOTInductor does not compile the network: {_first_line(error)}") from error
        code = torch._inductor.aoti_load_package(file)
        for probe in probes:
            inputs = module.probe(*probe)
            wanted = module(*inputs)
            error = float((code(*inputs) - wanted).norm() / wanted.norm())
            if not error <= TOLERANCE[module.dtype]:
                raise CapabilityError(
                    f"AOTInductor's code differs from Python by {error:.2g} of images {probe[1]}×{probe[2]} (root "
                    "mean square), so it is not used. Another --shape or --dtype may do."
                )
    return about


def _for_any_size(module: _Plain) -> tuple[torch.export.ExportedProgram, int, int]:
    """The program, what sides are multiples of, and the least side."""
    refused = ""
    logging.getLogger("torch.fx.experimental.symbolic_shapes").setLevel(logging.ERROR)  # what is refused is told below
    for multiple, few in itertools.product(MULTIPLES, LEAST):
        least = max(few, multiple)
        height, width = (
            multiple * torch.export.Dim(n, min=least // multiple, max=LARGEST // multiple) for n in ("height", "width")
        )
        batch = torch.export.Dim("batch", min=1, max=BATCHES)
        free = {"x": {0: batch, 2: height, 3: width}, "sigma": {0: batch}}
        try:
            exported = _exported(module, (2, 2 * least, 3 * least), free)
        except CapabilityError as error:
            refused = str(error)
            continue
        sides = itertools.permutations((least, least + multiple, 2 * least + 3 * multiple), 2)
        if all(_same(module, exported, (b, *s)) for b, s in itertools.product((1, 3), sides)):
            return exported, multiple, least
    raise CapabilityError(f"The network cannot be exported for images of any size; give --shape HxW. {refused}")


def _exported(module: _Plain, probe: tuple[int, int, int], free: Any = None) -> torch.export.ExportedProgram:
    try:
        with torch.no_grad():
            return torch.export.export(module, module.probe(*probe), dynamic_shapes=free)
    except Exception as error:  # of many kinds, from many layers of torch.export
        raise CapabilityError(f"torch.export does not take the network: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _same(module: _Plain, exported: torch.export.ExportedProgram, probe: tuple[int, int, int]) -> bool:
    inputs = module.probe(*probe)
    try:
        with torch.no_grad():
            return torch.equal(exported.module()(*inputs), module(*inputs))
    except (AssertionError, RuntimeError):  # a condition that held for the example does not hold here
        return False
