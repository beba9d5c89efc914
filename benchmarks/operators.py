"""Blur and ×4 super-resolution against hand-written code and deepinv: python benchmarks/operators.py

3×256×256 float32, one image. One thread decides; all threads are reported.
"""

import argparse
import os
from collections.abc import Callable

import torch
from timing import Cell, compare, write_report
from torch.fft import irfft2, rfft2
from torch.nn.functional import conv2d, conv_transpose2d, pad

from pnpkit.operators.blur import Blur
from pnpkit.operators.makers.kernels import bicubic_kernel, gaussian_kernel, motion_kernel
from pnpkit.operators.super_resolution import SuperResolution

COMMAND = "python benchmarks/operators.py"
C, N, FACTOR, TAU = 3, 256, 4, 2.0
OVERHEAD_S = 30e-6
Functions = dict[str, Callable[[], torch.Tensor]]


def transfer(kernel: torch.Tensor) -> torch.Tensor:
    h, w = kernel.shape[-2:]
    return rfft2(torch.roll(pad(kernel, (0, N - w, 0, N - h)), (-(h // 2), -(w // 2)), (-2, -1)))


def blur_cases(kernel: torch.Tensor) -> dict[str, Functions]:
    """BlurFFT: forward, adjoint, normal and prox, each written three times."""
    from deepinv.physics import BlurFFT

    x, y = torch.rand(2, 1, C, N, N, generator=torch.Generator().manual_seed(0)).unbind()
    ours, theirs = Blur(kernel=kernel, shape=(C, N, N)), BlurFFT(img_size=(C, N, N), filter=kernel[None])
    d = transfer(kernel)
    conj, power = d.conj().resolve_conj(), d.abs() ** 2
    hand: Functions = {
        "forward": lambda: irfft2(rfft2(x) * d, s=(N, N)),
        "adjoint": lambda: irfft2(rfft2(y) * conj, s=(N, N)),
        "normal": lambda: irfft2(rfft2(x) * power, s=(N, N)),
        "prox": lambda: irfft2((rfft2(x) + TAU * conj * rfft2(y)) / (1 + TAU * power), s=(N, N)),
    }
    return _cases(ours, theirs, x, y, {"hand": hand})


def super_resolution_cases(kernel: torch.Tensor) -> dict[str, Functions]:
    """×4 super-resolution; by hand in two ways, of which the faster one counts."""
    from deepinv.physics import Downsampling

    rng = torch.Generator().manual_seed(0)
    x, y = torch.rand(1, C, N, N, generator=rng), torch.rand(1, C, N // FACTOR, N // FACTOR, generator=rng)
    ours = SuperResolution(kernel=kernel, factor=FACTOR, shape=(C, N, N))
    theirs = Downsampling(img_size=(C, N, N), filter=kernel[None], factor=FACTOR, padding="circular")
    return _cases(ours, theirs, x, y, {"hand": by_spectrum(kernel, x, y), "hand_conv": by_convolution(kernel, x, y)})


def by_spectrum(kernel: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> Functions:
    """Spectra folded onto the coarse grid, and tiled back."""
    d, n, f = transfer(kernel), N // FACTOR, FACTOR
    conj = d.conj().resolve_conj()

    def mirrored(half: torch.Tensor) -> torch.Tensor:
        return half.flip(-2, -1).roll(1, -2).conj()

    def down(fine: torch.Tensor) -> torch.Tensor:
        rows = (fine * d).unflatten(-2, (f, n)).sum(-3)
        there = rows[..., : n // 2 + 1] + rows[..., n : n + n // 2 + 1]
        return (there + mirrored(rows[..., n // 2 : n + 1] + rows[..., n + n // 2 : 2 * n + 1])) / f**2

    def up(coarse: torch.Tensor) -> torch.Tensor:
        rows = torch.cat([coarse, mirrored(coarse[..., 1 : n // 2])], -1).repeat(1, 1, 1, f)[..., : N // 2 + 1]
        return (rows.unsqueeze(-3) * conj.unflatten(-2, (f, n))).flatten(-3, -2)

    cogram = down(conj + 0 * rfft2(x)).real
    return {
        "forward": lambda: irfft2(down(rfft2(x)), s=(n, n)),
        "adjoint": lambda: irfft2(up(rfft2(y)), s=(N, N)),
        "normal": lambda: irfft2(up(down(rfft2(x))), s=(N, N)),
        "prox": lambda: x + irfft2(up((rfft2(y) - down(rfft2(x))) * (TAU / (1 + TAU * cogram))), s=(N, N)),
    }


def by_convolution(kernel: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> Functions:
    """Strided convolution, and its transpose wrapped around the borders."""
    (h, w), n = kernel.shape[-2:], N // FACTOR
    filters = kernel.flip(-2, -1)[None].expand(C, 1, h, w).contiguous()
    top, left, bottom, right = h - 1 - h // 2, w - 1 - w // 2, h // 2, w // 2
    power = (transfer(kernel).abs() ** 2).expand(1, 1, N, N // 2 + 1)
    cogram = rfft2(irfft2(power, s=(N, N))[..., ::FACTOR, ::FACTOR]).real

    def forward(image: torch.Tensor) -> torch.Tensor:
        wide = pad(image, (left, right, top, bottom), mode="circular")
        return conv2d(wide, filters, stride=FACTOR, groups=C)[..., :n, :n]

    def adjoint(data: torch.Tensor) -> torch.Tensor:
        wide = conv_transpose2d(data, filters, stride=FACTOR, groups=C)
        wide = pad(wide, (0, max(left + N - wide.shape[-1], 0), 0, max(top + N - wide.shape[-2], 0)))
        rows = wide[..., top : top + N, :].clone()
        rows[..., N - top :, :] += wide[..., :top, :]
        rows[..., : wide.shape[-2] - top - N, :] += wide[..., top + N :, :]
        out = rows[..., left : left + N].clone()
        out[..., N - left :] += rows[..., :left]
        out[..., : rows.shape[-1] - left - N] += rows[..., left + N :]
        return out

    return {
        "forward": lambda: forward(x),
        "adjoint": lambda: adjoint(y),
        "normal": lambda: adjoint(forward(x)),
        "prox": lambda: x + adjoint(irfft2(rfft2(y - forward(x)) * (TAU / (1 + TAU * cogram)), s=(n, n))),
    }


def _cases(ours, theirs, x: torch.Tensor, y: torch.Tensor, by_hand: dict[str, Functions]) -> dict[str, Functions]:
    pnpkit: Functions = {
        "forward": lambda: ours(x),
        "adjoint": lambda: ours.adjoint(y),
        "normal": lambda: ours.normal(x),
        "prox": lambda: ours.prox_l2(x, y, TAU),
    }
    deepinv: Functions = {
        "forward": lambda: theirs.A(x),
        "adjoint": lambda: theirs.A_adjoint(y),
        "normal": lambda: theirs.A_adjoint_A(x),
        "prox": lambda: theirs.prox_l2(x, y, TAU),
    }
    everyone = {"pnpkit": pnpkit, **by_hand, "deepinv": deepinv}
    return {call: {who: functions[call] for who, functions in everyone.items()} for call in pnpkit}


def check_agreement(name: str, functions: Functions) -> None:
    """All versions give the same result, else there is nothing to compare."""
    wanted = functions["pnpkit"]()
    for who, function in functions.items():
        error = float((function() - wanted).norm() / wanted.norm())
        if error > 1e-5:
            raise SystemExit(f"{name}: {who} differs from pnpkit by {error:.1e}; the timings would mean nothing.")


def row(name: str, call: str, seconds: dict[str, float], threads: int, wanted: float) -> dict[str, Cell]:
    hand = min(s for who, s in seconds.items() if who.startswith("hand"))
    ours, limit = seconds["pnpkit"], 1.05 * hand + OVERHEAD_S
    gain = seconds["deepinv"] / ours
    return {
        "operator": name,
        "call": call,
        "threads": threads,
        "pnpkit ms": ours * 1e3,
        "by hand ms": hand * 1e3,
        "limit ms": limit * 1e3,
        "deepinv ms": seconds["deepinv"] * 1e3,
        "deepinv / pnpkit": gain,
        "wanted": wanted,
        "met": (ours <= limit and gain >= wanted) if threads == 1 else None,
    }


def main(repeats: int = 101, all_threads: int | None = None) -> None:
    """Time everything and write benchmarks/results/operators.{json,md}."""
    torch.manual_seed(0)
    suite = {
        "BlurFFT, motion 25×25": (blur_cases(motion_kernel(size=25, seed=3)), 1.0),
        "SR ×4, Gaussian 9×9": (super_resolution_cases(gaussian_kernel(size=9, std=1.6)), 4.0),
        "SR ×4, bicubic 18×18": (super_resolution_cases(bicubic_kernel(factor=4)), 4.0),
        "SR ×4, Gaussian 25×25": (super_resolution_cases(gaussian_kernel(size=25, std=4.0)), 4.0),
    }
    rows = []
    for threads, rounds in ((1, repeats), (all_threads or os.cpu_count() or 1, max(repeats // 4, 5))):
        for name, (cases, wanted) in suite.items():
            for call, functions in cases.items():
                check_agreement(f"{name}, {call}", functions)
                rows.append(row(name, call, compare(functions, rounds, threads), threads, wanted))
    notes = [
        f"One image {C}×{N}×{N}, float32; medians of {repeats} interleaved calls, "
        f"{max(repeats // 4, 5)} on all threads.",
        "by hand: the same operator without checks, the faster of what we could write (super-resolution: folded "
        "spectra or strided convolution); what depends neither on x nor on tau is prepared beforehand.",
        "limit: 1.05 × by hand + 30 µs. wanted: by what factor deepinv must be slower. met: both, on one thread.",
    ]
    write_report("operators", rows, COMMAND, notes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=101)
    parser.add_argument("--threads", type=int, default=None, help="of the second table; all cores by default")
    options = parser.parse_args()
    main(options.repeats, options.threads)
