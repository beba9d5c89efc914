"""Perceptual similarity, through well-kept libraries. Values are per sample, (B,)."""

import functools
import os
from pathlib import Path
from typing import Any, Literal

import torch

from pnpkit.errors import DataError, ShapeError, WeightsError
from pnpkit.metrics.image import check_pair

BACKBONES = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth", "squeeze": "squeezenet1_1-b8a52dc0.pth"}


def _check_photographs(name: str, x: torch.Tensor, ref: torch.Tensor) -> None:
    check_pair(name, x, ref)
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise ShapeError(f"{name}: images are (B, 1 or 3, H, W), given {tuple(x.shape)}.")
    for what, image in (("x", x), ("ref", ref)):
        if float(image.min()) < -1e-6 or float(image.max()) > 1 + 1e-6:
            raise DataError(
                f"{name} works on [0, 1]; {what} spans [{float(image.min()):.3g}, {float(image.max()):.3g}]. "
                "Clamp or rescale it yourself, so that it is known."
            )


def haarpsi(x: torch.Tensor, ref: torch.Tensor) -> torch.Tensor:
    """Haar wavelet perceptual similarity index (Reisenhofer et al. 2018) by deepinv, (B,); 1 is identical.

    Needs no weights. Images (B, 1 or 3, H, W) in [0, 1]; deepinv's defaults (2× sub-sampling first).
    """
    from deepinv.loss.metric import HaarPSI

    _check_photographs("haarpsi", x, ref)
    return HaarPSI(norm_inputs=None)(x, ref).reshape(-1)


def lpips(
    x: torch.Tensor, ref: torch.Tensor, net: Literal["alex", "vgg", "squeeze"] = "alex", weights: str | None = None
) -> torch.Tensor:
    """LPIPS v0.1 (Zhang et al. 2018) by the package ``lpips``, (B,); 0 is identical. Images (B, 3, H, W) in [0, 1].

    weights : torchvision's ImageNet checkpoint of the backbone. None looks in the folder of the environment variable
        PNPKIT_WEIGHTS. Nothing is downloaded: without the file the metric is unavailable (WeightsError).
    """
    _check_photographs("lpips", x, ref)
    model = _lpips_model(net, str(_backbone(net, weights)))
    x, ref = (t.expand(-1, 3, -1, -1).to(torch.float32) for t in (x, ref))
    return model(x, ref, normalize=True).reshape(-1)


def _backbone(net: str, weights: str | None) -> Path:
    name = BACKBONES[net]
    folder = os.environ.get("PNPKIT_WEIGHTS")
    places = [Path(weights)] if weights else [Path(folder) / name] if folder else []
    for place in places:
        if place.is_file():
            return place
    looked = str(places[0]) if places else "nowhere, PNPKIT_WEIGHTS is not set"
    raise WeightsError(
        f"lpips is unavailable: the ImageNet backbone {name} (torchvision) is not here (looked: {looked}). Give "
        "weights=PATH, or put the file into the folder named by PNPKIT_WEIGHTS; the linear heads come with the package."
    )


@functools.lru_cache(maxsize=3)
def _lpips_model(net: str, path: str) -> Any:
    import lpips as package

    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        raise WeightsError(f"lpips: {path} cannot be read as weights: {error}") from error
    # pnet_rand builds the backbone without downloading; the file's features are put in afterwards.
    model = package.LPIPS(net={"squeeze": "squeeze"}.get(net, net), pnet_rand=True, verbose=False).eval()
    features = {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}
    wanted = model.net.state_dict()
    loaded = {k: features.get(k.split(".", 1)[1]) for k in wanted}
    if any(v is None or v.shape != wanted[k].shape for k, v in loaded.items()):
        raise WeightsError(f"lpips: {path} is not a torchvision checkpoint of {net}.")
    model.net.load_state_dict(loaded)
    return model
