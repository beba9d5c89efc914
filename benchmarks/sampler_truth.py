"""How exact the samplers are, where the posterior is known: python benchmarks/sampler_truth.py

Priors with exact denoisers: independent Gaussian pixels, a stationary Gaussian, a mixture of three Gaussians. Every
sampler with its defaults, ours and deepinv's, against the analytic posterior. Also how the error of PnP-DM falls with
its coupling.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from timing import write_report

import pnpkit as pk
from pnpkit import registry
from pnpkit.bridges.deepinv import denoiser_to_deepinv
from pnpkit.metrics import uncertainty
from pnpkit.operators import Blur, Inpainting
from pnpkit.priors import GaussianMixture
from pnpkit.priors.base import Denoiser
from pnpkit.problem import Problem
from pnpkit.solvers.pnp_dm import PnPDM
from pnpkit.testing.problems import IsotropicGaussian

OURS = ("dps", "pigdm", "ddrm", "ddnm", "diffpir", "daps", "annealed_langevin", "pnp_dm")
DRAWS = 4000  # of the exact posterior


@dataclass
class Truth:
    """A problem with its prior, the exact posterior's draws, and how many chains to run."""

    name: str
    problem: Problem
    prior: Denoiser
    exact: torch.Tensor  # (DRAWS, *shape)
    chains: int
    seen: torch.Tensor | None = None  # pixels that were measured, where that is a question
    modes: Callable[[torch.Tensor], torch.Tensor] | None = None  # images -> weights of the modes


def white() -> Truth:
    """The problem of PEERS.md D5: pixels N(0.5, 0.2²), half of them measured with noise 0.1."""
    rng, shape = torch.Generator().manual_seed(0), (1, 32, 32)
    mask = (torch.rand(*shape, generator=rng) > 0.5).float()
    operator, std = Inpainting(mask=mask, shape=shape), 0.2
    x = 0.5 + std * torch.randn(1, *shape, generator=rng)
    y = operator(x) + 0.1 * torch.randn(operator(x).shape, generator=rng)
    variance = 1 / (1 / std**2 + mask / 0.1**2)
    mean = variance * (0.5 / std**2 + operator.adjoint(y)[0] / 0.1**2)
    exact = mean + variance.sqrt() * torch.randn(DRAWS, *shape, generator=rng)
    prior = IsotropicGaussian(mean=0.5, std=std)
    return Truth("white, inpainting", Problem(operator, pk.Gaussian(0.1), y), prior, exact, 64, seen=mask > 0)


def stationary() -> Truth:
    """Correlated pixels (exponential, length 3), blurred, noise 0.05."""
    rng, n = torch.Generator().manual_seed(1), 12
    at = torch.stack(torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij"), -1).reshape(-1, 2).float()
    covariance = 0.2**2 * torch.exp(-torch.cdist(at, at) / 3)
    prior = GaussianMixture(means=torch.full((1, 1, n, n), 0.5), covariances=covariance[None])
    operator = Blur(kernel=pk.make("gaussian_kernel", size=5, std=1.0), shape=(1, n, n))
    return _gaussian("stationary, blur", operator, prior, 0.05, rng, 500)


def modes() -> Truth:
    """Three Gaussians of 16 pixels that a quarter of the pixels, noise 0.3, hardly tell apart."""
    rng, shape = torch.Generator().manual_seed(2), (1, 4, 4)
    means = 0.5 + 0.35 * torch.randn(3, *shape, generator=rng)
    prior = GaussianMixture(means=means, covariances=0.1**2 * torch.eye(16).repeat(3, 1, 1))
    mask = torch.zeros(shape).flatten()
    mask[:4] = 1
    operator = Inpainting(mask=mask.reshape(shape), shape=shape)
    truth = _gaussian("three modes, inpainting", operator, prior, 0.3, rng, 1000)

    def weights(x: torch.Tensor) -> torch.Tensor:
        nearest = torch.cdist(x.flatten(1), means.flatten(1)).argmin(1)
        return torch.bincount(nearest, minlength=3) / len(x)

    truth.modes = weights
    return truth


def _gaussian(name: str, operator, prior: GaussianMixture, sigma: float, rng: torch.Generator, chains: int) -> Truth:
    x = prior.sample(1, rng)
    y = operator(x)
    y = y + sigma * torch.randn(y.shape, generator=rng)
    problem = Problem(operator, pk.Gaussian(sigma), y)
    return Truth(name, problem, prior, prior.posterior(problem).sample(DRAWS, rng), chains)


def ours(name: str, truth: Truth) -> tuple[torch.Tensor, int]:
    """Samples (S, *shape), the last of each chain, and network calls."""
    result = pk.solve(truth.problem, truth.prior, registry.solver(name), seed=1, chains=truth.chains)
    return result.samples.unflatten(0, (truth.chains, -1))[:, -1, 0], result.calls["prior"]


def theirs(truth: Truth) -> dict[str, Callable[[], tuple[torch.Tensor, int]]]:
    """deepinv's samplers, each run once on a batch of copies of the measurement."""
    import deepinv as dinv

    y = truth.problem.y
    sigma = float(truth.problem.likelihood.sigma)
    noise = dinv.physics.GaussianNoise(sigma)
    shape = truth.problem.in_shape
    if isinstance(truth.problem.operator, Inpainting):
        physics = dinv.physics.Inpainting(img_size=shape, mask=truth.problem.operator.mask, noise_model=noise)
        y = truth.problem.operator.adjoint(y)
    else:
        kernel = truth.problem.operator.kernel[None]
        physics = dinv.physics.BlurFFT(img_size=shape, filter=kernel, noise_model=noise)
    many = y.repeat(truth.chains, 1, 1, 1)
    counter = Counted(denoiser_to_deepinv(truth.prior))
    data = dinv.sampling

    def run(make: Callable[[], object]) -> Callable[[], tuple[torch.Tensor, int]]:
        def go() -> tuple[torch.Tensor, int]:
            torch.manual_seed(0)
            counter.calls = 0
            x = make()(many.clone(), physics)  # type: ignore[operator]
            return x.float().reshape(truth.chains, *shape), counter.calls

        return go

    def guided(fidelity: object, steps: int = 200) -> object:
        sde = data.VariancePreservingDiffusion(alpha=1.0, dtype=torch.float64)
        solver = data.DDPMSolver(timesteps=torch.linspace(1, 0, steps, dtype=torch.float64))
        return data.PosteriorDiffusion(data_fidelity=fidelity, denoiser=counter, sde=sde, solver=solver)

    fidelity = dinv.optim.data_fidelity.L2()
    return {
        "DPS": run(lambda: data.DPS(counter)),
        "DPS, weight 100": run(lambda: data.DPS(counter, weight=100.0)),
        "DPS, annealed": run(lambda: data.DPS(counter, guidance="annealed")),
        "PiGDM": run(lambda: guided(data.PiGDMDataFidelity(denoiser=counter))),
        "MomentMatching": run(lambda: guided(data.MomentMatchingDataFidelity(denoiser=counter))),
        "DiffPIR": run(lambda: data.DiffPIR(counter, fidelity, sigma=sigma)),
        "DDRM": run(lambda: data.DDRM(counter, sigmas=torch.linspace(1, 0.001, 1000).numpy())),
    }


class Counted(torch.nn.Module):
    """A denoiser that counts its calls."""

    def __init__(self, denoiser: torch.nn.Module):
        super().__init__()
        self.denoiser, self.calls = denoiser, 0

    def forward(self, x, sigma, *args, **kwargs):
        self.calls += 1
        return self.denoiser(x, sigma, *args, **kwargs)


def judged(samples: torch.Tensor, truth: Truth) -> dict:
    """What the table shows of samples (S, *shape)."""
    mean, std = truth.exact.mean(0), truth.exact.std(0)
    where = truth.seen if truth.seen is not None else torch.ones_like(mean, dtype=torch.bool)
    low, high = uncertainty.interval(samples, 0.9)
    inside = ((truth.exact >= low) & (truth.exact <= high)).float().mean()
    row = {
        "corr. with exact mean": float(torch.corrcoef(torch.stack([samples.mean(0)[where], mean[where]]))[0, 1]),
        "error of mean / std": float(((samples.mean(0) - mean) / std)[where].square().mean().sqrt()),
        "std / exact": float((samples.std(0) / std)[where].mean()),
    }
    if truth.seen is not None:
        row["std / exact, unseen"] = float((samples.std(0) / std)[~where].mean())
    row["coverage of 90 %"] = float(inside)
    if truth.modes is not None:
        row["weights off by"] = float((truth.modes(samples) - truth.modes(truth.exact)).abs().max())
    return row


def table(truth: Truth) -> list[dict]:
    entries = {f"pnpkit {n}": (lambda n=n: ours(n, truth)) for n in OURS}
    try:
        entries |= {f"deepinv {n}": run for n, run in theirs(truth).items()}
    except ImportError:
        print("deepinv is not installed: ours only", file=sys.stderr)
    rows = []
    for name, run in entries.items():
        began = time.perf_counter()
        samples, calls = run()
        seconds = time.perf_counter() - began
        rows.append({"problem": truth.name, "sampler": name, **judged(samples, truth), "calls": calls, "s": seconds})
        print(rows[-1], flush=True)
    return rows


def couplings(truth: Truth) -> list[dict]:
    """PnP-DM's last coupling against its error: variance beyond the exact one where the data are."""
    rows = []
    for rho in (0.2, 0.1, 0.05, 0.025):
        solver = PnPDM(n_steps=400, burn_in=100, thin=6, rho_start=0.8, rho_end=rho, prior_steps=24)
        samples = pk.solve(truth.problem, truth.prior, solver, seed=1, chains=truth.chains).samples[:, 0]
        where = truth.seen
        excess = float((samples.var(0) / truth.exact.var(0))[where].mean()) - 1
        covered = judged(samples, truth)["coverage of 90 %"]
        rows.append({"rho / noise": rho / 0.1, "excess variance": excess, "coverage of 90 %": covered})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    torch.set_num_threads(1)
    rows = [row for truth in (white(), stationary(), modes()) for row in table(truth)]
    notes = [
        "One draw of each of 64, 500 and 1000 chains; defaults throughout. Mean and std over measured pixels of the "
        "first problem. The error of the mean of exact draws would be 0.125, 0.045 and 0.032.",
        "weights off by: the largest difference of a mode's weight from the exact one. calls: of the denoiser, by the "
        "whole batch at once. One thread.",
        "deepinv's PiGDM and MomentMatching take 200 DDPM steps; DDRM and DPS 1000.",
    ]
    command = "python benchmarks/sampler_truth.py"
    write_report("sampler_truth", rows, command, notes, "Samplers against exact posteriors")
    notes = ["Problem: white, inpainting. The excess falls as the square of rho. 400 steps, 64 chains × 51 draws."]
    title = "PnP-DM: error against coupling"
    write_report("pnp_dm_coupling", couplings(white()), command, notes, title)


if __name__ == "__main__":
    main()
