"""What a solve returns, and its one-file form."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pnpkit import linalg, spec
from pnpkit.errors import CapabilityError, DataError
from pnpkit.metrics import uncertainty
from pnpkit.priors.base import Priors

FORMAT = 2
OPTIONAL = ("samples", "theta", "theta_samples", "energy")


@dataclass
class Result:
    """A reconstruction and everything needed to judge and repeat it.

    x : (B, *in_shape), or one image, tensor or NumPy array, as the measurement was given; of samplers the mean of
        ``samples``, or of those of the chain with the least energy.
    samples : (S, B, *in_shape) for samplers, else None: S = chains · draws kept of each, those of one chain in a row.
    chains : how many chains ran on every measurement.
    theta, theta_samples : of blind solvers the operator's parameter, as x and samples are the image.
    energy : (B, chains) of solvers that choose among chains (``Solver.energy``).
    info : per-step values, {name: (steps, B)}; (steps, B, chains) with more than one.
    finite : (B,), or (B, chains): False for what diverged. Its x is the last finite iterate; its samples are NaN, and
        left out of ``x``, ``std`` and the rest.
    stopped : "tol", "n_steps" or "interrupted".
    calls : how often A, its adjoint, its prox and the prior were called by the solver.
    parts : operator, likelihood, prior and solver as objects; after ``load`` in their saved form.
    scale : what images were multiplied by while solving (x and samples are in the caller's units).
    notes : what was decided for the caller (scale, defaults, fitted schedules).
    """

    x: Any
    info: dict[str, torch.Tensor]
    finite: torch.Tensor
    steps: int
    stopped: str
    seconds: float
    calls: dict[str, int]
    seed: int
    parts: dict[str, Any]
    samples: Any = None
    chains: int = 1
    theta: Any = None
    theta_samples: Any = None
    energy: torch.Tensor | None = None
    scale: float = 1.0
    notes: list[str] = field(default_factory=list)

    # --- of samplers ---

    @property
    def std(self) -> Any:
        """Standard deviation of the samples, like x; of each real component for complex images."""
        return self._over_samples(uncertainty.std)

    def quantile(self, q: float) -> Any:
        """The q-quantile of the samples at every pixel, like x; real images."""
        return self._over_samples(lambda s: uncertainty.quantile(s, q))

    def interval(self, level: float = 0.9) -> tuple[Any, Any]:
        """The central credible interval at every pixel: (low, high), each like x (``metrics.uncertainty.interval``)."""
        return self._over_samples(lambda s: uncertainty.interval(s, level))

    def ess(self) -> Any:
        """Effective number of independent samples at every pixel, like x, real; needs 4 draws of a chain or more."""
        return self._over_samples(lambda s: uncertainty.ess(s.unflatten(0, (self.chains, -1))))

    def rhat(self) -> Any:
        """Split R-hat at every pixel, like x, real: near 1 where chains agree; needs 4 draws of a chain or more."""
        return self._over_samples(lambda s: uncertainty.split_rhat(s.unflatten(0, (self.chains, -1))))

    def _over_samples(self, function: Callable[[torch.Tensor], Any]) -> Any:
        if self.samples is None:
            raise CapabilityError("This result has no samples: its solver gives one estimate. Use a sampler.")
        value = function(_tensor(self.samples))
        if not isinstance(self.samples, np.ndarray):
            return value
        return tuple(v.cpu().numpy() for v in value) if isinstance(value, tuple) else value.cpu().numpy()

    @property
    def spec(self) -> dict[str, Any]:
        """The full configuration as JSON; tensors appear by their sha256."""
        return {kind: _encode_part(part)[0] for kind, part in self.parts.items()}

    def save(self, path: str | Path) -> None:
        """Write everything to one safetensors file (JSON in its header)."""
        from safetensors.torch import save_file

        if not Path(path).absolute().parent.is_dir():
            raise DataError(f"The folder {Path(path).absolute().parent} does not exist; make it first.")
        tensors = {f"info.{k}": v for k, v in self.info.items()} | {"x": _tensor(self.x), "finite": self.finite}
        for name in OPTIONAL:
            if (value := getattr(self, name)) is not None:
                tensors[name] = _tensor(value)
        for part in self.parts.values():
            tensors |= {f"spec.{k}": v for k, v in _encode_part(part)[1].items()}
        header = {
            "format": FORMAT, "spec": self.spec, "steps": self.steps, "stopped": self.stopped, "seconds": self.seconds,
            "calls": self.calls, "seed": self.seed, "scale": self.scale, "notes": self.notes,
            "numpy": isinstance(self.x, np.ndarray), "chains": self.chains,
        }  # fmt: skip
        plain, metadata = pack(tensors, header)
        save_file(plain, str(path), metadata)

    @classmethod
    def load(cls, path: str | Path) -> "Result":
        """Read what ``save`` wrote; ``rebuild`` gives the live parts back."""
        tensors, head = unpack(path)
        try:
            if head["format"] != FORMAT:
                raise DataError(f"{path} has result format {head['format']}, this version reads {FORMAT}.")
            stored = {k[5:]: v for k, v in tensors.items() if k.startswith("spec.")}
            info = {k[5:]: v for k, v in tensors.items() if k.startswith("info.")}
            arrays = {name: tensors[name] for name in ("x", *OPTIONAL) if name in tensors}
            if head["numpy"]:
                arrays = {name: value if name == "energy" else value.numpy() for name, value in arrays.items()}
            fields = {k: head[k] for k in ("steps", "stopped", "seconds", "calls", "seed", "scale", "notes", "chains")}
            parts = {kind: (config, stored) for kind, config in head["spec"].items()}
            return cls(**arrays, info=info, finite=tensors["finite"], parts=parts, **fields)
        except KeyError as error:
            raise DataError(f"{path} is not a pnpkit result: {error} is missing.") from error

    def rebuild(self, kind: str) -> Any:
        """The operator, likelihood, prior or solver this result was made with ("operator", …)."""
        part = self.parts[kind]
        if not isinstance(part, tuple):
            return part
        group = {"operator": "operators", "likelihood": "likelihoods", "prior": "priors", "solver": "solvers"}[kind]
        config, tensors = part
        if kind == "prior" and config is not None and "name" not in config:
            parts = {name: spec.rebuild(group, c, tensors) for name, c in config.items()}
            return Priors(x=parts.pop("x"), theta=parts)
        return None if config is None else spec.rebuild(group, config, tensors)


def gathered(
    draws: list[dict[str, torch.Tensor]],
    last: dict[str, torch.Tensor],
    finite: torch.Tensor,
    chains: int,
    energy: torch.Tensor | None,
) -> dict[str, Any]:
    """Fields of ``Result`` from draws {"x": (B·chains, …), "theta": …} with the chains of a sample in a row."""
    alive = finite.unflatten(0, (-1, chains))
    found: dict[str, Any] = {"finite": finite if chains == 1 else alive}
    best = None
    if energy is not None:
        energy = torch.where(alive, energy.unflatten(0, (-1, chains)), torch.inf)
        found["energy"], best = energy, energy.argmin(1)
    for name, end in last.items():
        series = torch.stack([torch.where(linalg.expand(finite, end), d[name], torch.nan) for d in draws])
        series = series.unflatten(1, (-1, chains)).movedim(2, 0)  # (C, K, B, …)
        samples = series.flatten(0, 1)
        if best is not None:
            series = series[best, :, torch.arange(len(best), device=best.device)].movedim(1, 0)[None]
        ends = end.unflatten(0, (-1, chains))[:, 0]
        mean = torch.where(linalg.expand(alive.any(1), ends), uncertainty.mean(series.flatten(0, 1)), ends)
        found |= {"x": mean, "samples": samples} if name == "x" else {name: mean, f"{name}_samples": samples}
    return found


def stacked(infos: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """{name: (steps, B)}; a step that did not report a name leaves NaN."""
    names = dict.fromkeys(n for info in infos for n in info)
    return {n: _column([info.get(n) for info in infos]) for n in names}


def _column(values: list[torch.Tensor | None]) -> torch.Tensor:
    rows = [None if v is None else torch.as_tensor(v).detach().cpu().double() for v in values]
    blank = torch.full_like(next(r for r in rows if r is not None), torch.nan)
    return torch.stack([blank if r is None else r for r in rows])


def _encode_part(part: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    if isinstance(part, tuple):  # loaded: already in saved form
        return part
    return spec.encode(part)


def _tensor(x: Any) -> torch.Tensor:
    return x.detach() if isinstance(x, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(x))


def pack(tensors: dict[str, torch.Tensor], header: dict[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and header as safetensors takes them: contiguous, unshared, complex as real pairs."""
    complexes = [k for k, v in tensors.items() if v.is_complex()]
    plain = {k: (torch.view_as_real(v.resolve_conj()) if v.is_complex() else v) for k, v in tensors.items()}
    plain = {k: v.detach().cpu().contiguous().clone() for k, v in plain.items()}
    return plain, {"pnpkit": json.dumps(header | {"complex": complexes})}


def unpack(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The inverse of ``pack`` from a file; DataError when it is missing, truncated or not ours."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise DataError(f"File {path} does not exist.")
    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {})["pnpkit"])
            # Cloned: memory of another alignment lets BLAS sum in another order, and a resumed run differ in a bit.
            tensors = {k: file.get_tensor(k).clone() for k in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise DataError(
            f"{path} cannot be read as a pnpkit file (truncated, or written by something else): {error}"
        ) from error
    return {k: torch.view_as_complex(v) if k in header["complex"] else v for k, v in tensors.items()}, header
