"""Deblurring with an unknown kernel: python examples/blind_deblurring.py [photograph.png] [picture.png]

A crop of a photograph (of scikit-image's cameraman when none is given) is blurred by an oblong Gaussian that the solver
is not told. Blind-PnPDM draws image and kernel in turn, each with a shipped prior, in several chains; the one with the
least energy is refined, and shown beside the reconstruction that knows the kernel (how well that goes:
docs/posterior.md).
"""

import sys
from pathlib import Path

import torch

import pnpkit as pk
from pnpkit.io import read_image, write_image
from pnpkit.metrics.aligned import psnr_aligned
from pnpkit.priors import Rescale, UnitSum

SIDE = 64


def main(photo: torch.Tensor, picture: Path, steps: int | None = None, chains: int = 8) -> dict[str, float]:
    x = photo[..., :SIDE, :SIDE]
    kernel = pk.make("anisotropic_gaussian_kernel", size=32, std_y=2.0, std_x=0.9, angle_deg=30.0)
    noise = pk.Gaussian(0.02)
    blur = pk.operators.Blur(kernel=kernel, shape=(1, SIDE, SIDE))
    y = noise.sample(blur(x), torch.Generator().manual_seed(0))

    # Two priors: images in [0, 1]; kernels of unit sum, which the shipped network knows divided by 0.1.
    on_kernels = UnitSum(Rescale(denoiser=pk.prior("blur_kernels"), inner=(0.0, 1.0), outer=(0.0, 0.1)))
    priors = pk.Priors(x=pk.prior("photos_gray"), theta=on_kernels)
    unknown = blur.at(kernel=torch.full_like(kernel, 1 / kernel.numel()))  # its kernel is not used
    # The data term begins with more noise: chains that fit the data closely from the start keep their first kernel.
    fewer = {} if steps is None else {"n_steps": steps}
    solver = {"name": "blind_pnp_dm", "preset": "deblurring"} | fewer
    first = pk.compose(unknown, prior=priors, solver=solver, noise=noise)(y, chains=chains)
    # From the kernel of the best chain on: images drawn anew for the kernel, and the kernel for them.
    solver = {"name": "blind_pnp_dm", "preset": "refinement"} | fewer
    result = pk.compose(blur.at(kernel=first.theta), prior=priors, solver=solver, noise=noise)(y)
    oracle = pk.compose(blur, prior="photos_gray", solver={"name": "pnp_dm", "n_steps": steps or 60}, noise=noise)(y)

    found = {"blurred": y, "kernel known": oracle.x, "kernel unknown": result.x}
    # Image and kernel may move against each other: PSNR after the best shift.
    scores = {name: float(psnr_aligned(v, x, 1.0)) for name, v in found.items()}
    for name, score in scores.items():
        print(f"{name}: {score:.2f} dB")
    moved = [result.theta.roll((i, j), (-2, -1)) for i in range(-6, 7) for j in range(-6, 7)]
    print(f"kernel: relative error {min(float((k - kernel).norm() / kernel.norm()) for k in moved):.2f}")
    print(f"energies of the chains: {', '.join(f'{e:.0f}' for e in first.energy.flatten().tolist())}")
    kernels = [torch.nn.functional.interpolate(k / kernel.max(), SIDE) for k in (kernel[None], result.theta)]
    row = torch.cat([v[0].clamp(0, 1) for v in (x, *found.values(), *kernels)], -1)
    write_image(picture, row.repeat_interleave(2, -1).repeat_interleave(2, -2))
    print(f"wrote {picture}: truth, {', '.join(found)}, true kernel, found kernel")
    return scores


def cameraman() -> torch.Tensor:
    from skimage.data import camera

    return torch.from_numpy(camera()[90 : 90 + 2 * SIDE : 2, 180 : 180 + 2 * SIDE : 2].copy()).float()[None, None] / 255


if __name__ == "__main__":
    photo = torch.from_numpy(read_image(sys.argv[1]))[None].float().mean(1, True) if len(sys.argv) > 1 else cameraman()
    main(photo, Path(sys.argv[2] if len(sys.argv) > 2 else "blind_deblurring.png"))
