"""deepinv's physics and denoisers, both ways."""

import copy
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from pnpkit.bridges.wrapped import WrappedNonLinear, WrappedTensors
from pnpkit.errors import CapabilityError, ShapeError, SpecError
from pnpkit.likelihoods import Gaussian, Likelihood, Poisson
from pnpkit.linalg import expand
from pnpkit.operators.base import LinearOperator, Operator
from pnpkit.priors.base import Denoiser, Domain, Proximable
from pnpkit.types import Shape


class Bridged(NamedTuple):
    """A physics in two parts: the operator, and its noise as a likelihood (None for no or unknown noise)."""

    operator: Operator
    likelihood: Likelihood | None


def from_deepinv(physics: Any, in_shape: Shape | None = None, complex: bool = False) -> Bridged:
    """A ``deepinv.physics.Physics`` as an operator and a likelihood; the physics is copied, not changed later.

    ``operator(x)`` is its noise-free ``A``; linear ones use its ``A_adjoint``, and a closed ``prox_l2``.
    One forward call on zeros gives the shape of measurements. Random settings are fixed as they are.

    in_shape : image shape without batch, for a physics that does not know its ``img_size``.
    complex : whether images are complex; most of deepinv's are real, with two channels for complex ones.
    """
    from deepinv.physics import DecomposablePhysics, LinearPhysics

    own = copy.deepcopy(physics)
    shape = in_shape if in_shape is not None else getattr(own, "img_size", None)
    if shape is None:
        raise ShapeError(f"from_deepinv: {type(own).__name__} does not know its img_size; give in_shape=(C, H, W).")
    shape = tuple(int(n) for n in shape)
    parameter = next((t for t in [*own.parameters(), *own.buffers()] if t.is_floating_point()), torch.zeros(0))
    real = parameter.dtype
    zeros = torch.zeros(1, *shape, dtype=real.to_complex() if complex else real, device=parameter.device)
    with torch.no_grad():
        y = own.A(zeros)
    if not isinstance(y, torch.Tensor):
        raise CapabilityError(
            f"from_deepinv: {type(own).__name__} measures a {type(y).__name__}; bridge its parts and join them: Stack."
        )
    shapes = {"in_shape": shape, "out_shape": tuple(y.shape[1:]), "complex_in": complex, "complex_out": y.is_complex()}
    if isinstance(own, LinearPhysics):
        closed = own.prox_l2 if isinstance(own, DecomposablePhysics) else None
        prox = None if closed is None else Prox(closed)
        maps = {"mapping": own.A, "adjoint_mapping": own.A_adjoint, "prox_mapping": prox}
        operator: Operator = WrappedTensors(owner=own, **maps, **shapes)
    else:
        operator = WrappedNonLinear(owner=own, mapping=own.A, **shapes)
    return Bridged(operator.requires_grad_(False).to(parameter.device, real), likelihood_of(own))


class Prox:
    """deepinv's prox of gamma/2·‖A x − y‖², with ours' tau = gamma."""

    def __init__(self, prox: Any):
        self.prox = prox

    def __call__(self, z: torch.Tensor, y: torch.Tensor, tau: Any) -> torch.Tensor:
        if not isinstance(tau, torch.Tensor):
            return self.prox(z, y, tau) if tau > 0 else z.clone()  # theirs divides by gamma
        level = expand(tau, z)
        return torch.where(level > 0, self.prox(z, y, torch.where(level > 0, level, 1)), z)


def likelihood_of(physics: Any) -> Likelihood | None:
    """Gaussian and Poisson noise models as likelihoods."""
    from deepinv.physics import GaussianNoise, PoissonNoise

    noise = physics.noise_model
    if isinstance(noise, GaussianNoise):
        sigma = torch.as_tensor(noise.sigma)
        return Gaussian(sigma=float(sigma) if sigma.numel() == 1 else sigma)
    if isinstance(noise, PoissonNoise):
        # Theirs: y = gain·Poisson(A x/gain), or without the leading factor; ours: y ~ Poisson(gain·A x).
        if noise.normalize:
            raise CapabilityError(
                "from_deepinv: PoissonNoise(normalize=True) gives counts times its gain; divide y by the gain and use "
                "likelihoods.Poisson(gain=1/gain)."
            )
        return Poisson(gain=1 / float(torch.as_tensor(noise.gain)))
    return None


def to_deepinv(operator: Operator, likelihood: Likelihood | None = None):
    """An operator as a ``deepinv.physics.LinearPhysics`` (or ``Physics``), with Gaussian noise as its noise model."""
    from deepinv.physics import GaussianNoise, LinearPhysics, Physics, ZeroNoise

    noise: Any = ZeroNoise()
    if isinstance(likelihood, Gaussian) and not likelihood.per_element:
        noise = GaussianNoise(sigma=torch.as_tensor(likelihood.sigma))
    elif likelihood is not None:
        raise SpecError(f"to_deepinv: {type(likelihood).__name__} noise has no bridge; pass likelihood=None.")
    if not isinstance(operator, LinearOperator):
        return Physics(A=lambda x, **_: operator(x), noise_model=noise)
    linear: LinearOperator = operator

    class FromPnpkit(LinearPhysics):
        def __init__(self) -> None:
            super().__init__(img_size=linear.in_shape, noise_model=noise)
            self.operator = linear

        def A(self, x: torch.Tensor, **_: Any) -> torch.Tensor:
            return linear(x)

        def A_adjoint(self, y: torch.Tensor, **_: Any) -> torch.Tensor:
            return linear.adjoint(y)

        def A_adjoint_A(self, x: torch.Tensor, **_: Any) -> torch.Tensor:
            return linear.normal(x)

        def A_dagger(self, y: torch.Tensor, **_: Any) -> torch.Tensor:
            return linear.pinv(y)

        def prox_l2(self, z: torch.Tensor, y: torch.Tensor, gamma: Any, **_: Any) -> torch.Tensor:
            tau = gamma.flatten() if isinstance(gamma, torch.Tensor) else gamma
            return linear.prox_l2(z, y, tau[0] if isinstance(tau, torch.Tensor) and len(tau) == 1 else tau)

    return FromPnpkit()


class DeepinvDenoiser(Denoiser):
    """One of deepinv's denoisers; made by ``denoiser_from_deepinv``."""

    def __init__(self, network: object, domain: object):
        super().__init__()
        self.network = network
        self.domain: Domain = domain  # type: ignore[assignment]

    def _denoise(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return self.network(x, sigma)  # type: ignore[operator]


def denoiser_from_deepinv(network: nn.Module, domain: Domain) -> Denoiser:
    """A ``deepinv.models.Denoiser``; ``domain`` says what images and noise levels it was trained for."""
    return DeepinvDenoiser(network=network, domain=domain)


class DeepinvPrior(Proximable):
    """One of deepinv's explicit priors; made by ``prior_from_deepinv``."""

    def __init__(self, theirs: object, weight: float):
        super().__init__()
        self.theirs, self.weight = theirs, weight

    def value(self, x: torch.Tensor) -> torch.Tensor:
        theirs: Any = self.theirs
        return self.weight * theirs(x).reshape(x.shape[0])

    def _prox(self, z: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        theirs: Any = self.theirs
        strength = self.weight * tau
        if bool((strength == strength[0]).all()):
            return theirs.prox(z, gamma=float(strength[0]))
        return torch.cat([theirs.prox(one[None], gamma=float(s)) for one, s in zip(z, strength, strict=True)])


def prior_from_deepinv(prior: Any, weight: float = 1.0) -> Proximable:
    """An explicit ``deepinv.optim.Prior`` (TVPrior, L1Prior, WaveletPrior, …) as weight times a proximable function.

    Its prox is theirs: iterative ones stop at their own tolerance. Of a ``PnP`` or ``RED`` prior, bridge its denoiser
    (``denoiser_from_deepinv(prior.denoiser, domain)``): only it knows the noise levels it was made for.
    """
    if not getattr(prior, "explicit_prior", False):
        raise SpecError(
            f"prior_from_deepinv: {type(prior).__name__} has no function; use denoiser_from_deepinv(prior.denoiser, …)."
        )
    return DeepinvPrior(theirs=prior, weight=weight)


def denoiser_to_deepinv(denoiser: Denoiser, beyond: Literal["error", "nearest"] = "error") -> nn.Module:
    """A denoiser as ``deepinv.models.Denoiser``, for their optimisers and samplers.

    beyond : what it does at noise levels that it was not made for, which paths of their samplers begin or end with.
        "error" raises CapabilityError. "nearest": at levels below, it is called with its lowest one; above, x is shrunk
        towards the middle m of the value range to the highest one h, D(m + (x − m)·h/sigma, h), since nearly all of x
        is noise there. It needs a denoiser with a value range, and one sigma for all images.
    """
    from deepinv.models.base import Denoiser as Theirs

    values = denoiser.domain.value_range
    if beyond == "nearest" and values is None:
        raise CapabilityError(f"{type(denoiser).__name__} has no value range, so beyond='nearest' has no middle.")

    class FromPnpkit(Theirs):
        def __init__(self) -> None:
            super().__init__()
            self.denoiser = denoiser

        def forward(self, x: torch.Tensor, sigma: Any, **_: Any) -> torch.Tensor:
            level = torch.as_tensor(sigma, dtype=x.real.dtype, device=x.device).flatten()
            if beyond == "error" or len(level) != 1:
                return denoiser(x, level[0] if len(level) == 1 else level)
            given = float(level)
            used = denoiser.fit_sigma(given)
            middle = sum(values) / 2  # type: ignore[arg-type]
            return denoiser(middle + (x - middle) * (used / given) if used < given else x, used)

    return FromPnpkit()
