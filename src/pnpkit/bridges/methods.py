"""Whole methods of other libraries as solvers: one step runs them from start to end."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from pydantic import PositiveInt

from pnpkit.bridges.deepinv import to_deepinv
from pnpkit.bridges.sigpy import to_sigpy
from pnpkit.errors import ShapeError, SpecError
from pnpkit.likelihoods import Gaussian
from pnpkit.operators.base import LinearOperator
from pnpkit.problem import Problem
from pnpkit.seeds import stream
from pnpkit.solvers.base import Solver, iterate


class WholeState(NamedTuple):
    x: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class WholeMethod(Solver):
    """A method that goes from the problem to an image by itself: ``method(problem, rng)`` -> x (B, *in_shape).

    Made by ``method_from_deepinv`` and ``method_from_sigpy``. It brings its own prior, so none is passed to it. Runs
    like any solver; its calls of A are counted, its inner iterations are not seen.
    """

    method: object
    n_steps: PositiveInt = 1
    tol: float | None = None

    def init(self, problem: Problem, prior: None, rng: torch.Generator, x0: torch.Tensor | None = None) -> WholeState:
        if x0 is not None:
            raise SpecError("WholeMethod starts where its owner does; it takes no x0.")
        return WholeState(torch.zeros(problem.batch, *problem.in_shape, dtype=problem.in_dtype, device=problem.device))

    def step(self, problem: Problem, prior: None, state: WholeState, k: int, rng: torch.Generator):
        method: Any = self.method
        x = method(problem, rng)
        wanted = (problem.batch, *problem.in_shape)
        if tuple(x.shape) != wanted:
            raise ShapeError(f"{type(method).__name__} returned {tuple(x.shape)}, expected {wanted}.")
        return WholeState(x.to(problem.in_dtype)), {}

    @classmethod
    def example(cls) -> Self:
        return cls(method=AdjointOf())


class AdjointOf:
    """A^T y: the simplest whole method."""

    def __call__(self, problem: Problem, rng: torch.Generator) -> torch.Tensor:
        operator: Any = problem.operator
        return operator.adjoint(problem.y)


def method_from_deepinv(model: Any, keep: Callable[[torch.Tensor], None] | None = None) -> WholeMethod:
    """A deepinv optimiser, sampler or reconstruction network, called as ``model(y, physics)``, as a solver.

    Physics and noise are made from the problem (``to_deepinv``; Gaussian noise, or none that they know). deepinv draws
    from torch's global generator: it is seeded from the run's own, and put back afterwards. A sampler that returns
    (mean, variance) gives the mean; ``keep`` is called with the variance.
    """
    return WholeMethod(method=DeepinvModel(model, keep))


class DeepinvModel:
    """``method_from_deepinv``."""

    def __init__(self, model: Any, keep: Callable[[torch.Tensor], None] | None):
        self.model, self.keep = model, keep

    def __call__(self, problem: Problem, rng: torch.Generator) -> torch.Tensor:
        plain = isinstance(problem.likelihood, Gaussian) and not problem.likelihood.per_element
        physics = to_deepinv(problem.operator, problem.likelihood if plain else None)
        seed = int(torch.randint(2**62, (1,), generator=rng, device=rng.device))
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            out = self.model(problem.y, physics)
        if isinstance(out, tuple):
            out, variance = out
            if self.keep is not None:
                self.keep(variance)
        return out


def method_from_sigpy(build: Callable[[np.ndarray, Any], Any]) -> WholeMethod:
    """A sigpy App as a solver: ``build(y, A)`` returns the App for one measurement and the Linop of the operator.

    ``lambda y, A: sigpy.app.LinearLeastSquares(A, y, proxg=…)``. Sample by sample, on the CPU; arrays have our axes
    without batch. Apps that make their operator themselves (``sigpy.mri.app``) may leave ``A`` unused.
    """
    return WholeMethod(method=SigpyApp(build))


class SigpyApp:
    """``method_from_sigpy``."""

    def __init__(self, build: Callable[[np.ndarray, Any], Any]):
        self.build = build

    def __call__(self, problem: Problem, rng: torch.Generator) -> torch.Tensor:
        if not isinstance(problem.operator, LinearOperator):
            raise SpecError("method_from_sigpy needs a linear operator.")
        linop = to_sigpy(problem.operator)
        out = [self.build(y.numpy(), linop).run() for y in problem.y.detach().cpu().resolve_conj()]
        x = np.stack([np.asarray(one).reshape(problem.in_shape) for one in out])
        return torch.from_numpy(x).to(problem.device, problem.in_dtype)


def to_sigpy_app(problem: Problem, prior: Any, solver: Solver, seed: int = 0, show_pbar: bool = False) -> Any:
    """A run of ours as a ``sigpy.app.App``: ``run()`` returns the image, (B, *in_shape) or without B = 1."""
    from sigpy.alg import Alg
    from sigpy.app import App

    class Steps(Alg):
        def __init__(self) -> None:
            super().__init__(solver.n_steps)
            rng = stream(seed, problem.device)
            self.steps = iterate(problem, prior, solver, rng)
            self.x: torch.Tensor | None = None
            self.ended = False

        def _update(self) -> None:
            with torch.no_grad():
                turn = next(self.steps, None)
            self.ended = turn is None or turn.done
            self.x = self.x if turn is None else turn.x

        def _done(self) -> bool:
            return self.ended or self.iter >= self.max_iter

    class FromPnpkit(App):
        def __init__(self) -> None:
            super().__init__(Steps(), show_pbar=show_pbar)

        def _output(self) -> np.ndarray:
            x = self.alg.x.detach().cpu().resolve_conj().numpy()
            return x[0] if len(x) == 1 else x

    return FromPnpkit()
