"""Radial MRI of a real brain: python examples/radial_mri.py DATA_FOLDER [picture.png]

DATA_FOLDER holds mri/espirit_full.cfl (real k-space of 8 coils, fully sampled) and mri/sigpy_projection_coord.npy (a
radial trajectory). The scan's image is measured anew along the trajectory, with noise, and reconstructed from that.
"""

import sys
from pathlib import Path

import torch

import pnpkit as pk
from pnpkit.io import read_cfl, read_npy, write_image


def main(data: Path, picture: Path) -> None:
    # The truth: the Cartesian k-space, its coil maps, and the image they make.
    kspace = torch.from_numpy(read_cfl(data / "mri/espirit_full.cfl"))
    size = tuple(kspace.shape[-2:])
    maps = pk.make("espirit_maps", kspace=kspace)
    cartesian = pk.operators.MRI(mask=torch.ones(1, *size), maps=maps)
    x = cartesian.adjoint(kspace[None])
    x = x / x.abs().max()

    # A radial scan of it: 96 spokes on a grid of 230×180, in cycles per field of view.
    spokes = torch.from_numpy(read_npy(data / "mri/sigpy_projection_coord.npy")).float()
    limit = torch.tensor(size) / 2
    trajectory = (spokes / spokes.abs().amax((0, 1)) * limit).reshape(-1, 2)
    radial = pk.operators.NonCartesianMRI(trajectory=trajectory, shape=(1, *size), maps=maps)
    noise = pk.Gaussian(0.002)
    y = noise.sample(radial(x), torch.Generator().manual_seed(0))

    # Three reconstructions, from the plainest on.
    weights = pk.make("density_compensation", trajectory=trajectory, shape=size)
    found = {"density-compensated adjoint": radial.adjoint(weights * y)}
    for name, prior, solver in (
        ("CG-SENSE", None, {"name": "cg", "n_steps": 30}),
        ("L1-wavelet", {"name": "l1_wavelet", "weight": 60.0}, {"name": "fista", "n_steps": 60}),
    ):
        result = pk.compose(radial, prior=prior, solver=solver, noise=noise)(y)
        found[name] = result.x
        print(f"{name}: {result.seconds:.1f} s")
    for name, image in found.items():
        print(f"{name}: NMSE {float((image - x).abs().square().sum() / x.abs().square().sum()):.4f}")
    write_image(picture, torch.cat([v[0].abs().clamp(0, 1) for v in (x, *found.values())], -1))
    print(f"wrote {picture}: truth, {', '.join(found)}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "radial_mri.png"))
