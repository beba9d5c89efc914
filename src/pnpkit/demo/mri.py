"""Accelerated MRI: a simulated multi-coil phantom, and the real 8-channel brain where it is."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from pnpkit import likelihoods, operators, priors, registry, solvers
from pnpkit.demo.cases import Case, Method, simulate
from pnpkit.spec import load_tensor

SIDE, COILS = 256, 8


def cases(data: Path | None, quick: bool) -> Iterator[Case]:
    """The phantom always; the brain when the data folder holds it."""
    yield phantom()
    if data is not None and (data / "mri" / "espirit_full.cfl").is_file():
        yield brain(data / "mri")


def methods(sigma: float, tv: float) -> list[Method]:
    """CG-SENSE, TV, L1-wavelet, the shipped score prior averaged over turns and flips, and Diff-Unfolding.

    The strengths of all but the last were chosen on the brain itself, so that each method shows its best.
    """
    score = priors.SelfEnsemble(denoiser=registry.build("priors", "brain_mri"))
    return [
        Method("CG-SENSE", None, solvers.CG(n_steps=30)),
        Method("TV", priors.TV(weight=tv), solvers.PDHG(n_steps=400)),
        Method("L1-wavelet", priors.L1Wavelet(weight=0.3 / sigma, shifts=4), solvers.FISTA(n_steps=100)),
        Method("brain_mri in HQS", score, solvers.HQS(n_steps=8, lam=0.15)),
        Method(
            "unfold_mri",
            registry.build("priors", {"name": "unfold_mri", "backend": "auto"}),
            solvers.PosteriorSampler(n_steps=1),
        ),
    ]


def phantom() -> Case:
    """Shepp–Logan with a smooth phase, 8 birdcage coils, every 4th line and 24 calibration lines."""
    from skimage.data import shepp_logan_phantom
    from skimage.transform import resize

    image = torch.from_numpy(np.asarray(resize(shepp_logan_phantom(), (SIDE, SIDE)), dtype=np.float32))
    axis = torch.linspace(-1, 1, SIDE)
    phase = torch.exp(1j * (0.8 * axis[:, None] - 0.5 * axis[None] ** 2))
    x = (image * phase).to(torch.complex64)[None, None]
    mask = registry.make("line_mask", shape=(1, SIDE, SIDE), acceleration=4, calib=24, seed=0)
    maps = registry.make("birdcage_maps", shape=(COILS, SIDE, SIDE))
    operator = operators.MRI(mask=mask, maps=maps).with_cg(tol=1e-3, max_iter=400)
    sigma = 0.005
    text = f"Shepp–Logan, {COILS} coils, 4× line mask, complex noise of sigma {sigma:g}"
    return simulate(
        "MRI phantom, 4×", operator, likelihoods.Gaussian(sigma=sigma), x, methods(sigma, tv=0.5 / sigma), text
    )


def brain(folder: Path) -> Case:
    """Real 8-channel k-space, under-sampled 2×2: ESPIRiT maps from its calibration region.

    The reference is the coil combination of the full k-space, so its own noise bounds what can be reached;
    figures are within its support.
    """
    kspace = load_tensor({"file": str(folder / "espirit_full.cfl")})
    mask = load_tensor({"file": str(folder / "espirit_und2x2_mask.npy")}).float()[None]
    kspace = kspace / torch.fft.ifft2(kspace, norm="ortho").abs().max()
    maps = registry.make("espirit_maps", kspace=kspace * mask)
    full = operators.MRI(mask=torch.ones_like(mask), maps=maps)
    x = full.pinv(kspace[None])
    sigma = noise_level(kspace)
    text = f"espirit_full.cfl, 2×2 mask, noise sigma {sigma:.2g} estimated from the corners of k-space"
    support = x.abs() > 0.05 * x.abs().max()
    operator = operators.MRI(mask=mask, maps=maps)
    return Case(
        "real brain, 2×2",
        operator,
        likelihoods.Gaussian(sigma=sigma),
        x,
        (kspace * mask)[None],
        tuple(methods(sigma, tv=0.2 / sigma)),
        text,
        support,
    )


def noise_level(kspace: torch.Tensor) -> float:
    """Standard deviation per real component in the outermost corners of k-space, where signal is least."""
    edge = kspace[:, :8, :8]
    return float(torch.view_as_real(edge).std())
