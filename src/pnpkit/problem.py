"""Operator + noise model + data: the only thing a solver sees of the physics."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from pnpkit.errors import CapabilityError, DataError, ShapeError, SpecError
from pnpkit.likelihoods import Gaussian, Likelihood, SplitLikelihood, randn_like
from pnpkit.linalg import expand
from pnpkit.operators.base import LinearOperator, Operator, checked_tau
from pnpkit.operators.diagonal import Diagonal
from pnpkit.types import Scalar, Shape


@dataclass(frozen=True, eq=False)
class Problem:
    """y = noise(A(x)); checked once, here.

    operator : y = A(x; theta).
    likelihood : Gaussian, Poisson, or SplitLikelihood for a Stack.
    y : (B, *operator.out_shape), finite, in the operator's dtype and on its device.
    """

    operator: Operator
    likelihood: Likelihood
    y: torch.Tensor

    def __post_init__(self) -> None:
        if not isinstance(self.operator, Operator) or not isinstance(self.likelihood, Likelihood):
            raise SpecError(
                f"Problem(operator, likelihood, y): given {type(self.operator).__name__}, "
                f"{type(self.likelihood).__name__}."
            )
        self.operator._check(self.y, self.operator.out_shape, self.operator.out_dtype, "y")
        finite = torch.isfinite(torch.view_as_real(self.y) if self.y.is_complex() else self.y)
        if not bool(finite.all()):
            bad = (~finite).flatten(1).any(1).nonzero().flatten().tolist()
            raise DataError(
                f"y contains NaN or Inf in sample(s) {bad}. Mask those measurements out (an operator that skips them) "
                "or repair the file."
            )
        self.likelihood.check(self.y, self.operator.out_shape)

    # --- shapes ---

    @property
    def batch(self) -> int:
        return self.y.shape[0]

    @property
    def in_shape(self) -> Shape:
        return self.operator.in_shape

    @property
    def in_dtype(self) -> torch.dtype:
        return self.operator.in_dtype

    @property
    def device(self) -> torch.device:
        return self.y.device

    @property
    def quadratic(self) -> bool:
        """Whether nll is: a linear operator with Gaussian noise, for which ``prox`` and ``sample`` are exact."""
        return isinstance(self.operator, LinearOperator) and self.likelihood.name == "gaussian"

    def initial(self, rng: torch.Generator | None = None) -> torch.Tensor:
        """A starting image from the data, (B, *in_shape)."""
        return self.operator.initial(self.likelihood.invert(self.y), rng)

    # --- the data term ---

    def nll(self, x: torch.Tensor) -> torch.Tensor:
        """−log p(y | x) up to a constant, (B,)."""
        return self.likelihood.nll(self.operator(x), self.y)

    def grad(self, x: torch.Tensor) -> torch.Tensor:
        """∇ nll(x), (B, *in_shape)."""
        if isinstance(self.operator, LinearOperator):
            return self.operator.adjoint(self.likelihood.grad(self.operator(x), self.y))
        return self.operator.vjp(x, self.likelihood.grad(self.operator(x), self.y))

    def prox(self, z: torch.Tensor, tau: Scalar) -> torch.Tensor:
        """argmin_x ½‖x − z‖² + tau·nll(x), tau > 0 a number or (B,); linear operator, Gaussian noise."""
        operator, y, weight = self.whitened
        return operator.prox_l2(z, y, checked_tau(tau, z) * weight)

    def sample(self, z: torch.Tensor, tau: Scalar, rng: torch.Generator) -> torch.Tensor:
        """A draw from p(x) ∝ exp(−nll(x) − ‖x − z‖²/(2 tau)): perturb-and-solve, exact when prox is.

        Papandreou & Yuille, NeurIPS 2010; Gaussian noise, linear operator.
        """
        operator, y, weight = self.whitened
        root = checked_tau(tau, z) ** 0.5
        z = z + expand(root, z) * randn_like(z, rng)
        noise = randn_like(y, rng)
        y = y + noise / expand(torch.as_tensor(weight, device=y.device).sqrt(), y)
        return operator.prox_l2(z, y, tau * weight)

    @cached_property
    def whitened(self) -> tuple[LinearOperator, torch.Tensor, Scalar]:
        """(A, y, w) with nll = w/2·‖A x − y‖²: per-element sigma goes into A and y, else into w."""
        if not isinstance(self.operator, LinearOperator) or self.likelihood.name != "gaussian":
            raise CapabilityError(
                f"prox and sample of the data term need a linear operator and Gaussian noise; here "
                f"{type(self.operator).__name__} and {type(self.likelihood).__name__}. Use a gradient solver."
            )
        likelihood = self.likelihood
        if isinstance(likelihood, Gaussian) and not likelihood.per_element:
            return self.operator, self.y, likelihood.sigma**-2
        assert isinstance(likelihood, Gaussian | SplitLikelihood)
        std = likelihood.std(self.y)
        weight = 1 / std
        inverse = weight[0] if weight.shape[0] == 1 else weight
        white = Diagonal(weight=inverse, shape=self.operator.out_shape, complex=self.y.is_complex()) @ self.operator
        white._counter, white.cg = self.operator._counter, self.operator.cg
        return white, self.y * weight, 1.0  # type: ignore[return-value]

    def normal(self, x: torch.Tensor) -> torch.Tensor:
        """H x with H = A^H A/sigma² the Hessian of nll; Gaussian noise, linear operator."""
        operator, _, weight = self.whitened
        return expand(weight, x) * operator.normal(x)

    def rhs(self) -> torch.Tensor:
        """A^H y/sigma², so that ∇nll(x) = normal(x) − rhs(); Gaussian noise, linear operator."""
        operator, y, weight = self.whitened
        x = operator.adjoint(y)
        return expand(weight, x) * x

    @cached_property
    def lipschitz(self) -> torch.Tensor:
        """Lipschitz constant of ``grad``, (B,): ‖A‖²/sigma². Gaussian noise, linear operator."""
        operator, _, weight = self.whitened
        value = torch.as_tensor(operator.norm(), device=self.device) ** 2 * weight
        return value.expand(self.batch)

    @cached_property
    def noise_level(self) -> torch.Tensor:
        """Standard deviation of the noise per pixel of x, (B,), in its units; Gaussian noise, linear operator.

        sigma_y/‖A‖·√(m/n) for fewer measurements m than pixels n (×2 super-resolution: ‖A‖ ≈ 1/2, m = n/4, so sigma_y),
        sigma_y/‖A‖ for more.
        """
        measured, pixels = (torch.Size(shape).numel() for shape in (self.operator.out_shape, self.in_shape))
        return self.lipschitz.rsqrt() * min(1.0, measured / pixels) ** 0.5

    # --- other problems ---

    @cached_property
    def homogeneous(self) -> "Problem":
        """The same with y = 0: its prox is the linear part of this one's."""
        return replace(self, y=torch.zeros_like(self.y))

    def at(self, **theta: torch.Tensor) -> "Problem":
        """The same data under other operator parameters."""
        return replace(self, operator=self.operator.at(**theta))

    def rows(self, idx: torch.Tensor) -> "Problem":
        """Only the measurements ``idx`` along the operator's ``row_axis``."""
        axis = self.operator.row_axis
        likelihood = self.likelihood.rows(idx, axis, self.operator.out_shape)
        operator = self.operator.rows(idx)
        if self.operator._counter is not None:
            operator = operator.counted(self.operator._counter)
        return Problem(operator, likelihood, self.y.index_select(axis, idx))

    def scaled(self, c: float) -> "Problem":
        """The problem for c·x (operators homogeneous of degree one: all linear ones): y and sigma times c."""
        if not 0 < c < float("inf"):
            raise SpecError(f"scale must be finite and > 0, given {c}.")
        y = self.likelihood.scaled_data(self.y, c)
        return Problem(self.operator, self.likelihood.scaled(c), y)

    def repeat(self, n: int) -> "Problem":
        """Every sample n times in a row: (B, …) -> (n·B, …)."""
        likelihood = self.likelihood.repeat(n, self.y.ndim - 1)
        return Problem(self.operator.repeat(n), likelihood, self.y.repeat_interleave(n, 0))

    def __getitem__(self, select: slice) -> "Problem":
        if not isinstance(select, slice):
            raise SpecError("problem[i:j] takes a slice; for one sample use problem[i:i+1].")
        return Problem(self.operator.select(select), self.likelihood.index(select, self.y.ndim - 1), self.y[select])


class ProblemGroup:
    """Problem's interface over a concatenated batch whose parts have different operators.

    Images of all parts have one shape and dtype; measurements may differ. Used for training on families
    of operators.
    """

    def __init__(self, problems: Sequence[Problem]):
        if not problems:
            raise SpecError("ProblemGroup needs at least one problem.")
        first = problems[0]
        for p in problems[1:]:
            if (p.in_shape, p.in_dtype, p.device) != (first.in_shape, first.in_dtype, first.device):
                raise ShapeError(
                    f"ProblemGroup: images must agree; given {first.in_shape} {first.in_dtype} on {first.device} and "
                    f"{p.in_shape} {p.in_dtype} on {p.device}."
                )
        self.problems = tuple(problems)
        self.sizes = [p.batch for p in problems]
        self.batch = sum(self.sizes)
        self.in_shape, self.in_dtype, self.device = first.in_shape, first.in_dtype, first.device

    def _each(self, method: str, *args) -> torch.Tensor:
        """Call a method on every part with its slice of each (B, …) argument, and concatenate."""
        columns = [
            a.split(self.sizes) if isinstance(a, torch.Tensor) and a.ndim > 0 else [a] * len(self.sizes) for a in args
        ]
        return torch.cat([getattr(p, method)(*row) for p, *row in zip(self.problems, *columns, strict=True)])

    def nll(self, x: torch.Tensor) -> torch.Tensor:
        """As ``Problem.nll``, (B,)."""
        return self._each("nll", x)

    def grad(self, x: torch.Tensor) -> torch.Tensor:
        """As ``Problem.grad``."""
        return self._each("grad", x)

    def prox(self, z: torch.Tensor, tau: Scalar) -> torch.Tensor:
        """As ``Problem.prox``."""
        return self._each("prox", z, tau)

    def sample(self, z: torch.Tensor, tau: Scalar, rng: torch.Generator) -> torch.Tensor:
        """As ``Problem.sample``."""
        return self._each("sample", z, tau, rng)

    def normal(self, x: torch.Tensor) -> torch.Tensor:
        """As ``Problem.normal``."""
        return self._each("normal", x)

    def rhs(self) -> torch.Tensor:
        """As ``Problem.rhs``."""
        return self._each("rhs")

    @cached_property
    def lipschitz(self) -> torch.Tensor:
        """As ``Problem.lipschitz``, (B,)."""
        return torch.cat([p.lipschitz for p in self.problems])

    @property
    def quadratic(self) -> bool:
        """As ``Problem.quadratic``, of all parts."""
        return all(p.quadratic for p in self.problems)

    @cached_property
    def noise_level(self) -> torch.Tensor:
        """As ``Problem.noise_level``, (B,)."""
        return torch.cat([p.noise_level for p in self.problems])

    @cached_property
    def homogeneous(self) -> "ProblemGroup":
        """As ``Problem.homogeneous``."""
        return ProblemGroup([p.homogeneous for p in self.problems])

    def initial(self, rng: torch.Generator | None = None) -> torch.Tensor:
        """A starting image for every part."""
        return torch.cat([p.initial(rng) for p in self.problems])

    def scaled(self, c: float) -> "ProblemGroup":
        """As ``Problem.scaled``."""
        return ProblemGroup([p.scaled(c) for p in self.problems])

    def repeat(self, n: int) -> "ProblemGroup":
        """As ``Problem.repeat``."""
        return ProblemGroup([p.repeat(n) for p in self.problems])
