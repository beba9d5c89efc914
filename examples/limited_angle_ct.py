"""Limited-angle CT from real sinograms: python examples/limited_angle_ct.py FILE.mat … [--picture ct.png]

The files are those of the Helsinki Tomography Challenge 2022 (Meaney et al., doi:10.5281/zenodo.6984868): acrylic discs
with holes, a flat-detector fan beam, views 0.5° apart over 30° to 90°. The geometry is read from each file.
"""

import argparse
from pathlib import Path

import torch

import pnpkit as pk
from pnpkit.io import read_mat, write_image

SIZE = 256  # pixels across the field of view
ACRYLIC = 0.042  # its attenuation a mm, as the solid disc of the data set shows


def scan(path: Path) -> tuple[pk.operators.CT, torch.Tensor]:
    """The operator of a file's geometry (in mm), and the sinogram (1, 1, views, bins)."""

    def told(name: str) -> torch.Tensor:
        return torch.from_numpy(read_mat(path, f"CtDataLimited/{name}").squeeze()).float()

    y = told("sinogram")
    bins = y.shape[-1]
    operator = pk.operators.CT(
        angles=torch.deg2rad(told("parameters/angles")),
        shape=(1, SIZE, SIZE),
        detectors=bins,
        pitch=float(told("parameters/pixelSizePost")),
        pixel=float(told("parameters/effectivePixelSizePost")) * bins / SIZE,
        source_to_axis=float(told("parameters/distanceSourceOrigin")),
        source_to_detector=float(told("parameters/distanceSourceDetector")),
    )
    return operator, y[None, None]


def main(files: list[Path], picture: Path) -> None:
    rows = []
    for path in files:
        operator, y = scan(path)
        noise = pk.Gaussian(0.02)  # of the logarithms, the model's own error included
        tv, box = {"name": "tv", "weight": 200.0}, {"name": "box", "low": 0.0, "high": ACRYLIC}
        prior = {"name": "sum_prior", "priors": [tv, box]}
        result = pk.compose(operator, prior=prior, solver={"name": "pdhg", "n_steps": 300}, noise=noise)(y)
        found = {"filtered back-projection": operator.fbp(y, window="hann"), "TV between air and acrylic": result.x}
        print(f"{path.name}: TV in {result.seconds:.1f} s")
        for name, x in found.items():
            misfit = float((operator(x) - y).norm() / y.norm())
            print(f"{path.name}: {name}: relative residual {misfit:.4f}")
        rows.append(torch.cat([(x[0] / ACRYLIC).clamp(0, 1) for x in found.values()], -1))
    write_image(picture, torch.cat(rows, -2))
    print(f"wrote {picture}: one row a file, {', '.join(found)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--picture", type=Path, default=Path("limited_angle_ct.png"))
    arguments = parser.parse_args()
    main(arguments.files, arguments.picture)
