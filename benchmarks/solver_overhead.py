"""What a solver costs beyond its operator and its prior: python benchmarks/solver_overhead.py (needs PNPKIT_DATA)

256×256, blur 25×25, HQS and PGD of pnpkit and deepinv. Each loop is timed beside the bare calls that it makes (its
start, the library's own prox or gradient, and the denoiser), with FFDNet and with a denoiser that does nothing.
"""

from collections.abc import Callable

import torch
from data import folder
from timing import compare, write_report

from pnpkit import make
from pnpkit.likelihoods import Gaussian
from pnpkit.operators import Blur
from pnpkit.priors import FFDNet
from pnpkit.priors.base import Denoiser, Domain
from pnpkit.problem import Problem
from pnpkit.solvers import HQS, PGD
from pnpkit.solvers.base import solve

STEPS, SIDE, SIGMA, TAU = 20, 256, 0.02, 0.5
Loop = Callable[[], object]


class Nothing(Denoiser):
    """D(x, sigma) = x."""

    domain = Domain((1, None, None), value_range=(0.0, 1.0))

    def _denoise(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return x


def pairs(denoiser: Denoiser) -> dict[tuple[str, str], tuple[Loop, Loop]]:
    """(solver, library) -> (its loop, the calls that it makes)."""
    import deepinv

    kernel = make("motion_kernel", size=25, seed=3)
    operator = Blur(kernel=kernel, shape=(1, SIDE, SIDE))
    y = torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    problem = Problem(operator, Gaussian(sigma=SIGMA), y)
    physics = deepinv.physics.BlurFFT(img_size=(1, SIDE, SIDE), filter=kernel[None])
    fidelity, sigma = deepinv.optim.L2(), torch.tensor([SIGMA])
    prior = deepinv.optim.PnP(denoiser=denoiser)
    settings = {"data_fidelity": fidelity, "prior": prior, "max_iter": STEPS, "early_stop": False}
    their_hqs = deepinv.optim.HQS(stepsize=TAU, sigma_denoiser=SIGMA, **settings)
    their_pgd = deepinv.optim.PGD(stepsize=TAU, sigma_denoiser=SIGMA, **settings)
    our_hqs = HQS(n_steps=STEPS, sigma_start=SIGMA, sigma_end=SIGMA)
    our_pgd = PGD(n_steps=STEPS, sigma=SIGMA, relative_step=TAU)

    def our_prox() -> None:
        x = problem.initial()
        for _ in range(STEPS):
            x = denoiser(operator.prox_l2(x, y, TAU), sigma)

    def our_gradient() -> None:
        x, step = problem.initial(), TAU * SIGMA**2
        for _ in range(STEPS):
            x = denoiser(x - step * problem.grad(x), sigma)

    def their_prox() -> None:
        x = physics.A_adjoint(y)
        for _ in range(STEPS):
            x = denoiser(fidelity.prox(x, y, physics, gamma=TAU), SIGMA)

    def their_gradient() -> None:
        x = physics.A_adjoint(y)
        for _ in range(STEPS):
            x = denoiser(x - TAU * fidelity.grad(x, y, physics), SIGMA)

    return {
        ("HQS", "pnpkit"): (lambda: solve(problem, denoiser, our_hqs), our_prox),
        ("HQS", "deepinv"): (lambda: their_hqs(y, physics), their_prox),
        ("PGD", "pnpkit"): (lambda: solve(problem, denoiser, our_pgd), our_gradient),
        ("PGD", "deepinv"): (lambda: their_pgd(y, physics), their_gradient),
    }


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    ffdnet = FFDNet(weights=str(folder() / "weights" / "FFDNet_gray.npz"))
    for name, denoiser, repeats in (("FFDNet", ffdnet, 3), ("none", Nothing(), 101)):
        functions = {}
        for (solver, library), (loop, calls) in pairs(denoiser).items():
            functions |= {f"{solver} {library} loop": loop, f"{solver} {library} calls": calls}
        seconds = compare(functions, repeats)
        for solver in ("HQS", "PGD"):
            for library in ("pnpkit", "deepinv"):
                loop, calls = (seconds[f"{solver} {library} {part}"] / STEPS for part in ("loop", "calls"))
                rows.append(
                    {
                        "solver": solver,
                        "denoiser": name,
                        "library": library,
                        "ms / step": 1e3 * loop,
                        "its calls ms": 1e3 * calls,
                        "overhead ms": f"{1e3 * (loop - calls):.3f}",
                        "overhead %": f"{100 * (loop - calls) / loop:.2f}",
                    }
                )
    notes = [
        f"One thread, medians; {STEPS} steps a run, start and result included, the calls of the start among its "
        "calls. 256×256, motion blur 25×25 by FFT.",
        "Wanted: under 2% of a step with FFDNet, and no more than deepinv's. With FFDNet the difference of two long "
        "times is noise of about ±1%; without a denoiser it is resolved.",
    ]
    command = "PNPKIT_DATA=… python benchmarks/solver_overhead.py"
    write_report("solver_overhead", rows, command, notes)


if __name__ == "__main__":
    main()
