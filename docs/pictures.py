"""The pictures of the documentation, from images that ship with scikit-image: python docs/pictures.py"""

from pathlib import Path

import torch

import pnpkit as pk
from pnpkit.demo.photographs import photograph
from pnpkit.io import write_image
from pnpkit.priors.base import Denoiser, Proximable
from pnpkit.sampling import sample
from pnpkit.testing.problems import IsotropicGaussian

HERE = Path(__file__).parent / "img"
SIGMA = 0.1


def denoised(prior: Denoiser | Proximable, x: torch.Tensor) -> torch.Tensor:
    return prior.prox(x, SIGMA**2) if isinstance(prior, Proximable) else prior.denoise(x, SIGMA)


def functions() -> None:
    """A grey photograph with noise, and after the prox of three functions."""
    x = photograph("chelsea").mean(1, keepdim=True)[..., 60:188, 40:200]
    noisy = x + SIGMA * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    names = ({"name": "tv"}, {"name": "closed_form_tv"}, {"name": "l1_wavelet", "wavelet": "db2", "shifts": 4})
    row = [noisy, *(denoised(pk.prior({**n, "weight": 0.8 / SIGMA}), noisy) for n in names)]
    write_image(HERE / "prior_functions.png", torch.cat(row, -1).clamp(0, 1))


def digits() -> None:
    """One row of samples a method."""
    prior, rows = pk.prior("digits"), []
    for method, n_steps in (("heun", 18), ("ddim", 40), ("ancestral", 100), ("langevin", 20)):
        x = sample(prior, (1, 28, 28), 20, method, n_steps, seed=3).x  # type: ignore[arg-type]
        rows.append(x.clamp(0, 1).permute(1, 2, 0, 3).reshape(1, 28, 560))
    write_image(HERE / "prior_digits.png", torch.cat(rows, -2))


def photographs() -> None:
    """Noise of 25/255 and 50/255, each beside what the score priors make of it: in grey, in colour."""
    rows = []
    for name, x in (("photos_gray", photograph("chelsea").mean(1, keepdim=True)), ("photos", photograph("coffee"))):
        x, prior, row = x[..., 60:188, 40:200], pk.prior(name), []
        for seed, level in enumerate((25 / 255, 50 / 255)):
            noisy = x + level * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
            row += [noisy, prior.denoise(noisy, level)]
        rows.append(torch.cat(row, -1).expand(-1, 3, -1, -1))
    write_image(HERE / "prior_photos.png", torch.cat(rows, -2).clamp(0, 1))


def tiny_photographs() -> None:
    """Samples of the generative prior of small colour images."""
    x = sample(pk.prior("tiny_photos"), (3, 64, 64), 24, "heun", 32, seed=1).x.clamp(0, 1)
    write_image(HERE / "prior_tiny_photos.png", x.reshape(2, 12, 3, 64, 64).permute(2, 0, 3, 1, 4).reshape(3, 128, 768))


def uncertainty() -> None:
    """Truth, data, two samples, mean, error and standard deviation (×4) behind a mask that hides 70 % of the pixels."""
    x = photograph("chelsea").mean(1, keepdim=True)[..., 60:156, 60:156]
    mask = pk.make("random_mask", shape=(1, 96, 96), fraction=0.3, seed=0)
    operator = pk.operators.Inpainting(mask=mask)
    y = pk.Gaussian(0.02).sample(operator(x), torch.Generator().manual_seed(0)) * mask
    result = pk.compose(operator, prior="photos_gray", solver="pigdm", noise=pk.Gaussian(0.02))(y, chains=20)
    row = [x, y, *result.samples[:2], result.x, 4 * (result.x - x).abs(), 4 * result.std]
    write_image(HERE / "posterior_uncertainty.png", torch.cat(row, -1)[0].clamp(0, 1))


def calibration() -> None:
    """Nominal against actual coverage of credible intervals where the posterior is known, as SVG."""
    std, noise, shape = 0.2, 0.1, (1, 32, 32)
    rng = torch.Generator().manual_seed(0)
    mask = (torch.rand(*shape, generator=rng) > 0.5).float()
    operator, prior = pk.operators.Inpainting(mask=mask), IsotropicGaussian(mean=0.5, std=std)
    y = operator(0.5 + std * torch.randn(1, *shape, generator=rng))
    y = y + noise * torch.randn(y.shape, generator=rng)
    variance = 1 / (1 / std**2 + mask / noise**2)
    mean = variance * (0.5 / std**2 + operator.adjoint(y)[0] / noise**2)
    exact, levels = torch.distributions.Normal(mean, variance.sqrt()), [k / 20 for k in range(1, 20)]
    lines = []
    colours = {"diffpir": "#1b7837", "pnp_dm": "#2166ac", "annealed_langevin": "#b2182b", "ddrm": "#e08214"}
    for name, colour in colours.items():
        result = pk.solve(pk.Problem(operator, pk.Gaussian(noise), y), prior, pk.solver(name), chains=100)
        points = []
        for level in levels:
            low, high = (limit[0] for limit in result.interval(level))
            points.append((level, float((exact.cdf(high) - exact.cdf(low)).mean())))
        lines.append((name, colour, points))
    (HERE / "posterior_calibration.svg").write_text(svg(lines))


def svg(lines: list[tuple[str, str, list[tuple[float, float]]]]) -> str:
    """Curves in the unit square over the diagonal, labelled at their ends."""
    size, edge = 300, 40
    at = lambda p: f"{edge + size * p[0]:.1f},{edge + size * (1 - p[1]):.1f}"  # noqa: E731
    text = '<text font-family="sans-serif" font-size="12" fill="{}" x="{}" y="{}">{}</text>'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{size + 190}" height="{size + 2 * edge}">',
        f'<rect width="100%" height="100%" fill="white"/><rect x="{edge}" y="{edge}" width="{size}" height="{size}" '
        'fill="none" stroke="#888"/>',
        f'<polyline points="{at((0, 0))} {at((1, 1))}" stroke="#888" stroke-dasharray="4" fill="none"/>',
        text.format("#333", edge + 60, size + edge + 25, "credible level of the interval"),
        text.format("#333", edge, edge - 12, "share of the exact posterior inside"),
    ]
    for i, (name, colour, points) in enumerate(lines):
        path = " ".join(at(p) for p in points)
        parts.append(f'<polyline points="{path}" stroke="{colour}" stroke-width="2" fill="none"/>')
        parts.append(text.format(colour, edge + size + 10, edge + 20 + 18 * i, name))
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    for picture in (functions, photographs, digits, tiny_photographs, uncertainty, calibration):
        picture()
