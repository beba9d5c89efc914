"""Error bars for accelerated MRI: python examples/posterior_mri.py DATA_FOLDER [picture.png]

DATA_FOLDER holds mri/espirit_full.cfl, real k-space of 8 coils. It is under-sampled 2×2 (with the mask beside it) and
4 and 6 times along lines. Samples of the posterior under the shipped prior ``brain_mri`` give a mean and its
uncertainty, beside CG-SENSE, wavelets and TV. No k-space was used in training; one brain is a demonstration.
"""

import sys
from pathlib import Path

import torch

import pnpkit as pk
from pnpkit.io import read_cfl, read_npy, write_image
from pnpkit.metrics.uncertainty import coverage


def main(data: Path, picture: Path, steps: int = 20, chains: int = 20) -> None:
    kspace = torch.from_numpy(read_cfl(data / "mri/espirit_full.cfl"))
    kspace = kspace / torch.fft.ifft2(kspace, norm="ortho").abs().max()
    sigma = float(torch.view_as_real(kspace[:, :8, :8]).std())  # the corners of k-space hold noise alone
    size = tuple(kspace.shape[-2:])
    undersampled = torch.from_numpy(read_npy(data / "mri/espirit_und2x2_mask.npy")).float()[None]
    masks = {"2×2": undersampled}
    for factor in (4, 6):
        lines = pk.make("line_mask", shape=(1, *size), acceleration=float(factor), calib=24, seed=0)
        masks[f"lines, {factor}×"] = lines.float()
    rows = [judged(name, kspace, mask, sigma, steps, chains) for name, mask in masks.items()]
    write_image(picture, torch.cat(rows, -2))
    print(f"wrote {picture}: truth, CG-SENSE, posterior mean, its error and standard deviation ×10; a mask a row")


def judged(name: str, kspace: torch.Tensor, mask: torch.Tensor, sigma: float, steps: int, chains: int) -> torch.Tensor:
    """Reconstruct with every method, print NMSE inside the head; the row of the picture."""
    maps = pk.make("espirit_maps", kspace=kspace * mask)
    scan = pk.operators.MRI(mask=mask, maps=maps).with_cg(tol=1e-3, max_iter=300)
    truth = pk.operators.MRI(mask=torch.ones_like(mask), maps=maps).pinv(kspace[None])
    inside = truth.abs() > 0.05 * truth.abs().max()
    floor = 2 * sigma**2 / float(truth.abs().square()[inside].mean())
    noise, y = pk.Gaussian(sigma), (kspace * mask)[None]
    methods = {
        "CG-SENSE": (None, {"name": "cg", "n_steps": 30}),
        "L1-wavelet": ({"name": "l1_wavelet", "weight": 0.3 / sigma}, {"name": "fista", "n_steps": 100}),
        "TV": ({"name": "tv", "weight": 0.2 / sigma}, {"name": "pdhg", "n_steps": 300}),
    }
    found = {n: pk.compose(scan, prior=p, solver=s, noise=noise)(y).x for n, (p, s) in methods.items()}
    prior = {"name": "unet", "weights": "brain_mri", "arithmetic": "bfloat16", "backend": "auto"}
    solver = {"name": "diffpir", "n_steps": steps, "lam": 0.3}  # like the other strengths, chosen on this brain
    sampler = pk.compose(scan, prior=prior, solver=solver, noise=noise)
    posterior = sampler(y, chains=chains)
    found["posterior mean"] = posterior.x
    print(f"{name} (the reference's own noise: NMSE about {floor:.5f})")
    for method, x in found.items():
        miss = (x - truth).abs().square()[inside].sum() / truth.abs().square()[inside].sum()
        print(f"  {method}: NMSE {float(miss):.5f}")
    if chains >= 19:
        again = noise.sample(posterior.samples, rng=torch.Generator().manual_seed(0))  # as noisy as the truth is
        share = coverage(again[:, inside], truth[inside], 0.9).mean()
        print(f"  the 90 % intervals of {chains} samples hold {100 * float(share):.0f} % of the head's pixels")
    error, std = 10 * (posterior.x - truth).abs(), 10 * posterior.std
    panels = (truth.abs(), found["CG-SENSE"].abs(), posterior.x.abs(), error, std)
    seen = maps.abs().sum(-3) > 0  # beyond, no coil says anything
    return torch.cat([(p[0] * seen).clamp(0, 1) for p in panels], -1)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "posterior_mri.png"))
