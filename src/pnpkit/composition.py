"""compose(operator, prior, solver, noise) → Reconstructor: the call most users make.

Parts may be objects, names or mappings. What is left out is chosen here, and every choice is written
into ``notes``; whether the parts fit is checked here, before any data is seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import torch

from pnpkit import registry
from pnpkit.errors import CapabilityError, DataError, DivergedError, ShapeError, SpecError
from pnpkit.likelihoods import Gaussian, Likelihood
from pnpkit.operators.base import LinearOperator, Operator
from pnpkit.priors.base import Denoiser, PosteriorDenoiser, Prior, Priors, Proximable
from pnpkit.problem import Problem
from pnpkit.solvers.base import AnyPrior, Solver, missing, solve
from pnpkit.solvers.result import Result
from pnpkit.types import Config

Scale = Literal["auto"] | float | None


@dataclass(frozen=True)
class Reconstructor:
    """Checked parts, ready for data: ``result = reconstruct(y)``."""

    operator: Operator
    prior: AnyPrior
    solver: Solver
    likelihood: Likelihood
    scale: Scale
    notes: tuple[str, ...]

    def __call__(
        self,
        y: torch.Tensor | np.ndarray,
        seed: int = 0,
        progress: Any = False,
        x0: torch.Tensor | np.ndarray | None = None,
        objective: bool = False,
        checkpoint: str | Path | None = None,
        every: int = 10,
        chains: int = 1,
    ) -> Result:
        """Reconstruct one measurement (*out_shape) or a batch (B, *out_shape).

        NumPy in, NumPy out; one image in, one image out; results are in the units of y, whatever
        ``scale`` did inside. ``x0`` is a warm start in the same units. The rest is as in ``solve``.
        """
        data, notes = self._tensor(y, self.operator.out_dtype, "y")
        single = data.ndim == len(self.operator.out_shape)
        problem = Problem(self.operator, self.likelihood, data[None] if single else data)
        start = None
        if x0 is not None:
            start = self._tensor(x0, self.operator.in_dtype, "x0")[0]
            start = start[None] if start.ndim == len(self.operator.in_shape) else start
        c, why = self._factor(problem)
        if c != 1.0:
            problem, start = problem.scaled(c), None if start is None else start * c
        give = _Back(c, single, isinstance(y, np.ndarray))
        try:
            result = solve(
                problem, self.prior, self.solver, seed, start, progress, objective, checkpoint, every, False, chains
            )
        except DivergedError as error:
            x = None if error.x is None else give(error.x)
            raise DivergedError(str(error), x, error.step) from error
        return replace(
            result,
            x=give(result.x),
            samples=None if result.samples is None else give(result.samples, axis=1),
            theta=None if result.theta is None else give(result.theta, units=False),
            theta_samples=None if result.theta is None else give(result.theta_samples, axis=1, units=False),
            parts=result.parts | {"likelihood": self.likelihood},
            scale=c,
            notes=[*self.notes, *notes, *([why] if why else [])],
        )

    def _tensor(self, value: Any, dtype: torch.dtype, what: str) -> tuple[torch.Tensor, list[str]]:
        """Tensors as they are; arrays in the operator's precision, which is reported."""
        if isinstance(value, torch.Tensor):
            return value, []
        if not isinstance(value, np.ndarray):
            raise DataError(f"{what} must be a torch tensor or a NumPy array, given {type(value).__name__}.")
        tensor = torch.from_numpy(np.array(value, order="C"))  # a copy: the caller's array is never written
        if tensor.is_complex() and not dtype.is_complex:
            raise ShapeError(
                f"{what} is complex ({value.dtype}) but the operator works on {dtype}; take .real or abs first."
            )
        cast = tensor.to(self.operator.device, dtype)
        note = f"{what} was converted from {value.dtype} to {str(dtype)[6:]}, the operator's precision"
        return cast, [] if tensor.dtype == dtype else [note]

    def _factor(self, problem: Problem) -> tuple[float, str | None]:
        """What images are multiplied by inside, and a sentence about it."""
        if self.scale is None:
            return 1.0, None
        if not isinstance(self.scale, str):
            return float(self.scale), f"scale: images are multiplied by {self.scale:g} inside, as asked"
        part = self.prior["x"] if isinstance(self.prior, Priors) else self.prior
        wanted = part.domain.value_range if isinstance(part, Denoiser | PosteriorDenoiser) else None
        if wanted is None:
            return 1.0, None
        x = problem.operator.initial(problem.y, torch.Generator(problem.device).manual_seed(0))
        top = float(torch.quantile(x.abs().flatten()[:: max(1, x.numel() // 100_000)], 0.99))
        if top <= 0 or 0.5 * wanted[1] <= top <= 1.5 * wanted[1]:
            return 1.0, None
        c = wanted[1] / top
        return (
            c,
            f"scale: images reach about {top:.3g}, {type(part).__name__} expects {wanted}; times {c:.4g} inside",
        )


class _Back:
    """Results in the caller's form: units, batch axis, tensor or array."""

    def __init__(self, c: float, single: bool, numpy: bool):
        self.c, self.single, self.numpy = c, single, numpy

    def __call__(self, x: torch.Tensor, axis: int = 0, units: bool = True) -> Any:
        x = x / self.c if units and self.c != 1.0 else x
        x = x.select(axis, 0) if self.single else x
        return x.detach().cpu().numpy() if self.numpy else x


def compose(
    operator: Operator | Config,
    prior: Prior | Priors | Config | Sequence[Any] | None = None,
    solver: Solver | Config | None = None,
    noise: Likelihood | Config | None = None,
    scale: Scale = "auto",
) -> Reconstructor:
    """Put parts together and check that they fit.

    operator : what was measured.
    prior : one prior, several at once (a list: their sum), or None for a default that suits the images. TV and L1
        priors given by name without ``weight`` get one that suits the noise. For blind solvers ``Priors``, or a
        mapping {"x": …, "theta": …} of what each prior is on.
    solver : None for a default that suits operator, noise and prior.
    noise : Gaussian(sigma) or Poisson(gain, background), in units of y. Required.
    scale : what images are multiplied by while solving. "auto": a factor that brings them into the range a
        trained denoiser expects, and nothing for other priors; a number; or None. Reported in the result's
        notes; results come back in the caller's units.

    Raises CapabilityError when the parts cannot work together, saying which and why.
    """
    op = _built("operators", Operator, operator)
    if noise is None:
        raise SpecError(
            "compose needs noise=…, e.g. pk.Gaussian(0.01) with sigma in units of y, or pk.Poisson(gain=…). "
            "pk.tuning.estimate_sigma can estimate it."
        )
    likelihood = _built("likelihoods", Likelihood, noise)
    if isinstance(scale, str) and scale != "auto":
        raise SpecError(f"scale is 'auto', a number or None; given {scale!r}.")
    if isinstance(scale, int | float) and not 0 < scale < float("inf"):
        raise SpecError(f"scale must be finite and > 0, given {scale}.")
    notes: list[str] = []
    chosen = None if solver is None else _built("solvers", Solver, solver)
    takes_prior = chosen is None or any(s.startswith("prior") for s in chosen.needs)
    wanted = _prior(prior, op, likelihood, notes)
    if wanted is None and takes_prior:
        wanted = _default_prior(op, likelihood, chosen, notes)
    if chosen is None:
        chosen = _default_solver(op, likelihood, wanted, notes)
    if sentences := missing(chosen, SimpleNamespace(operator=op, likelihood=likelihood), wanted):
        raise CapabilityError(" ".join(sentences))
    return Reconstructor(op, wanted, chosen, likelihood, scale, tuple(notes))


def _built(kind: str, base: type, value: Any) -> Any:
    part = registry.build(kind, value) if isinstance(value, str | Mapping) else value
    if not isinstance(part, base):
        raise SpecError(
            f"compose: expected {base.__name__.lower()} as an object, a name or a mapping; given {type(value).__name__}"
            f"{' ' + repr(value)[:40] if isinstance(value, int | float) else ''}."
        )
    return part


def _prior(value: Any, op: Operator, likelihood: Likelihood, notes: list[str]) -> AnyPrior:
    if value is None or isinstance(value, Priors):
        return value
    if isinstance(value, list | tuple):
        from pnpkit.priors.sum_prior import SumPrior

        return SumPrior(priors=tuple(_built("priors", Proximable, _weighted(v, op, likelihood, notes)) for v in value))
    if isinstance(value, Mapping) and "x" in value and "name" not in value:
        on_x = _built("priors", Prior, _weighted(value["x"], op, likelihood, notes))
        return Priors(x=on_x, theta={n: _built("priors", Prior, v) for n, v in value.items() if n != "x"})
    return _built("priors", Prior, _weighted(value, op, likelihood, notes))


def _weighted(value: Any, op: Operator, likelihood: Likelihood, notes: list[str]) -> Any:
    """The config of a prior with a default weight where it has none; anything else as it is."""
    config = {"name": value} if isinstance(value, str) else value
    if not isinstance(config, Mapping) or "name" not in config or "weight" in config:
        return value
    if config["name"] in registry.names("weights"):  # a trained prior by the name of its weights
        return value
    cls = registry.get("priors", config["name"])
    if not issubclass(cls, Proximable) or cls.degree != 1:
        return value
    weight = default_weight(op, likelihood)
    notes.append(f"prior: {config['name']} with weight {weight:.4g} (default for this operator and noise)")
    return {**config, "weight": weight}


def _default_prior(op: Operator, likelihood: Likelihood, solver: Solver | None, notes: list[str]) -> Prior | None:
    """TV for real images, wavelets for complex ones, as strong as the noise asks for."""
    wants = () if solver is None else tuple(w for s, ws in solver.needs.items() if s == "prior" for w in ws)
    if wants and not any("prox" in w.split("|") for w in wants):
        return None  # `missing` then says that a denoiser is needed
    if solver is None and (likelihood.name != "gaussian" or not isinstance(op, LinearOperator)):
        return None  # MLEM or gradient descent need none
    return registry.prior(_weighted("l1_wavelet" if op.in_dtype.is_complex else "tv", op, likelihood, notes))


def default_weight(op: Operator, likelihood: Likelihood) -> float:
    """A strength of order 1/(noise std in image units): scale-free, and near the best for denoising.

    For denoising at standard deviation s the best TV and L1-wavelet weights lie near 1/s (threshold s²·weight ≈ s).
    Ill-posed operators want less, 0.2/s to 0.4/s in the demo's problems; ``pk.tuning.choose_weight`` finds better.
    """
    if not isinstance(likelihood, Gaussian) or not isinstance(op, LinearOperator):
        return 1.0
    gain = float(torch.as_tensor(op.norm()).mean())
    return 0.3 * max(gain, torch.finfo(torch.float32).tiny) / float(likelihood.sigma.mean())


def _default_solver(op: Operator, likelihood: Likelihood, prior: AnyPrior, notes: list[str]) -> Solver:
    gaussian, linear = likelihood.name == "gaussian", isinstance(op, LinearOperator)
    part = prior["x"] if isinstance(prior, Priors) else prior
    if part is None:
        name = (
            "cg" if gaussian and linear else "mlem" if likelihood.name == "poisson" and linear else "gradient_descent"
        )
    elif isinstance(part, Proximable):
        several = type(part).__name__ in ("SumPrior", "TV")  # split, each term has a cheap step; TV's own prox iterates
        name = "pdhg" if linear and (several or not gaussian) else "fista" if gaussian and linear else "pgd"
    elif isinstance(part, Denoiser):
        name = "hqs" if gaussian and linear else "pgd"
    elif isinstance(part, PosteriorDenoiser):
        notes.append("solver: posterior_sampler with one step, the posterior mean (default for a posterior denoiser)")
        return registry.solver({"name": "posterior_sampler", "n_steps": 1})
    else:
        raise CapabilityError(f"There is no default solver for the prior {type(part).__name__}; give solver=….")
    notes.append(f"solver: {name} (default for this operator, noise and prior)")
    return registry.solver(name)
