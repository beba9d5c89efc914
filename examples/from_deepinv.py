"""For users of deepinv: the same problem there and here, piece by piece: python examples/from_deepinv.py

1. Their physics in our solvers. 2. Our operator and our denoiser in their optimiser. 3. Their optimiser as one of our
solvers, so that both run side by side on the same data, with the same counts and clocks.
"""

import deepinv as dinv
import torch

import pnpkit as pk
from pnpkit.bridges.deepinv import denoiser_to_deepinv, from_deepinv, to_deepinv
from pnpkit.bridges.methods import method_from_deepinv
from pnpkit.metrics import psnr


def main(x: torch.Tensor) -> dict[str, float]:
    """x : (1, 1, H, W) in [0, 1]. Returns the PSNR of each way."""
    sigma = 0.03
    kernel = pk.make("motion_kernel", size=9, seed=3)

    # 1. What you have: a physics that makes its own noise. Here: an operator, and the noise beside it.
    physics = dinv.physics.BlurFFT(
        img_size=tuple(x.shape[1:]), filter=kernel[None], noise_model=dinv.physics.GaussianNoise(sigma)
    )
    torch.manual_seed(0)
    y = physics(x)
    operator, noise = from_deepinv(physics)
    prior = pk.prior("photos_gray")
    ours = pk.compose(operator, prior=prior, solver={"name": "hqs", "n_steps": 8}, noise=noise)(y)

    # 2. The other way round: our operator as their physics, our prior as their denoiser, their DPIR.
    blur = pk.operators.Blur(kernel=kernel, shape=tuple(x.shape[1:]))
    dpir = dinv.optim.DPIR(sigma=sigma, denoiser=denoiser_to_deepinv(prior), device="cpu")
    theirs = dpir(y, to_deepinv(blur, noise))

    # 3. Their optimiser as a solver of ours: a Result with time and counts, seeds, batches, benchmarks.
    side = pk.compose(blur, solver=method_from_deepinv(dpir), noise=noise)(y)

    found = {"measured": y, "pnpkit's HQS": ours.x, "deepinv's DPIR": theirs, "DPIR as a solver here": side.x}
    return {name: float(psnr(image, x, data_range=1.0)) for name, image in found.items()}


if __name__ == "__main__":
    from skimage.data import camera

    photo = torch.from_numpy(camera()[::2, ::2].copy()).float()[None, None] / 255
    for name, value in main(photo).items():
        print(f"{name}: {value:.2f} dB")
