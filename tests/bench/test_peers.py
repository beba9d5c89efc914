"""Other libraries' methods solve the same problems as ours."""

import numpy as np
import pytest
import torch

import pnpkit as pk
from pnpkit.bench import peers
from pnpkit.errors import CapabilityError

N = 64
MAPS = {"make": "birdcage_maps", "shape": [4, N, N]}
LINES = {"name": "mri", "mask": {"make": "line_mask", "shape": [1, N, N], "acceleration": 2.0, "seed": 1}, "maps": MAPS}
SPOKES = {
    "name": "non_cartesian_mri", "shape": [1, N, N], "maps": MAPS,
    "trajectory": {"make": "radial_trajectory", "shape": [N, N], "spokes": 60, "samples": 2 * N},
}  # fmt: skip
BLUR = {"name": "blur", "kernel": {"make": "gaussian_kernel", "size": 9, "std": 1.2}, "shape": [1, N, N]}
NOISE = {"name": "gaussian", "sigma": 0.01}
WAVELETS = {"weight": 20.0, "wavelet": "haar", "levels": 2}  # haar needs no border


@pytest.mark.parametrize(
    ("function", "config", "settings", "prior", "solver", "error"),
    [
        (peers.sigpy_cg, LINES, {}, None, {"name": "cg"}, 1e-3),
        (peers.deepinv_cg, LINES, {}, None, {"name": "cg"}, 1e-3),
        (peers.sigpy_cg, SPOKES, {}, None, {"name": "cg"}, 0.05),  # the accuracy of its NUFFT
        (peers.torchkbnufft_cg, SPOKES, {}, None, {"name": "cg"}, 0.05),
        (peers.sigpy_fista, BLUR, WAVELETS, "l1_wavelet", {"name": "fista", "restart": False}, 0.01),
        (peers.deepinv_fista, BLUR, WAVELETS, "l1_wavelet", {"name": "fista", "restart": False}, 0.01),
    ],
)
def test_they_agree_with_ours(function, config, settings, prior, solver, error):
    if function is peers.deepinv_fista:
        pytest.importorskip("ptwt", reason="deepinv's wavelets need ptwt")
    operator, steps = pk.operator(config), 10 if prior is None else 200  # their momentum differs, not where it ends
    axis = torch.linspace(-1, 1, N)
    x = ((axis[:, None] ** 2 + axis**2) < 0.5).to(operator.in_dtype)[None, None]
    y = pk.Gaussian(0.01).sample(operator(x), torch.Generator().manual_seed(0))[0].numpy()
    prior = None if prior is None else {"name": prior, **settings}
    ours = pk.compose(operator, prior=prior, solver=solver | {"n_steps": steps}, noise=NOISE)(y).x
    with torch.no_grad():
        theirs = function(config, NOISE, n_steps=steps, **settings)(y)
    assert theirs.shape == ours.shape
    assert np.linalg.norm(theirs - ours) < error * np.linalg.norm(ours)


def test_another_operator_is_refused():
    with pytest.raises(CapabilityError, match="written for mri, the task's operator is blur"):
        peers.deepinv_cg(BLUR, NOISE, n_steps=3)
