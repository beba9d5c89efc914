"""One source of truth: a component's typed constructor.

Its pydantic ``Spec`` is derived from the signature; constructing validates against it (strictly:
unknown keywords, wrong types and silent casts are errors); a constructor's parameters are kept as
attributes of the same name, so an object's spec, saved form and digest are read back from it.
"""

import functools
import hashlib
import inspect
import json
import types
import typing
from abc import ABCMeta
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Union

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, PlainValidator, ValidationError, WithJsonSchema, create_model

from pnpkit import registry
from pnpkit.errors import DataError, PnpkitError, SpecError, suggest
from pnpkit.types import Config


class Spec(BaseModel):
    """Parameters of one component. Frozen, no extra fields; equal when digests are equal."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True)

    def values(self) -> dict[str, Any]:
        """The fields that were set, as they are (no copies, no dumps)."""
        return {k: getattr(self, k) for k in type(self).model_fields if k in self.model_fields_set}

    def digest(self) -> str:
        """sha256 over the JSON form; tensors enter by their content."""
        return json_digest(encode(self)[0])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and self.digest() == other.digest()

    def __hash__(self) -> int:
        return hash(self.digest())


class ComponentMeta(ABCMeta):
    """Validates constructor arguments against the derived Spec, then constructs."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if inspect.isabstract(cls):
            raise TypeError(f"{cls.__name__} is abstract; use one of its registered subclasses")
        return super().__call__(**checked(cls, args, kwargs))


class Component(metaclass=ComponentMeta):
    """Base of operators, likelihoods, priors and solvers."""

    kind: ClassVar[str] = "operators"

    @property
    def precision(self) -> torch.dtype | None:
        """Real dtype it works in, where the parameters alone do not tell; saved beside them when not float32."""
        return None

    @property
    def spec(self) -> Spec:
        """This object's parameters, read back from its attributes."""
        model = spec_type(type(self))
        return model.model_construct(**{k: getattr(self, k) for k in model.model_fields if k != "name"})


# --- deriving -----------------------------------------------------------------------------------


@functools.cache
def spec_type(target: Callable[..., Any]) -> type[Spec]:
    """The Spec class of a component class or of a maker function."""
    function = target.__init__ if inspect.isclass(target) else target
    label = target.__name__
    hints = typing.get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for parameter in parameters(function):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise SpecError(f"{label}: a constructor takes no varargs (*{parameter.name}); name every parameter")
        if parameter.name not in hints:
            raise SpecError(f"{label}: parameter {parameter.name!r} has no type annotation")
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (_field_type(hints[parameter.name]), default)
    return create_model(f"{label}Spec", __base__=Spec, **fields)


def parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    if function is object.__init__ or function is torch.nn.Module.__init__:
        return []
    return [p for p in inspect.signature(function).parameters.values() if p.name != "self"]


def _field_type(hint: Any) -> Any:
    """The annotation with tensors and nested components replaced by what a config can hold."""
    if hint is torch.Tensor:
        return Annotated[Any, PlainValidator(_as_tensor), WithJsonSchema(_TENSOR_SCHEMA)]
    if inspect.isclass(hint) and issubclass(hint, Component):
        schema = {"description": f"{hint.__name__}: a registered name or a mapping with a 'name'"}
        return Annotated[Any, PlainValidator(functools.partial(_as_component, hint)), WithJsonSchema(schema)]
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return Union[tuple(_field_type(a) for a in args)]  # noqa: UP007
    if origin is tuple:
        return tuple[tuple(a if a is ... else _field_type(a) for a in args)]  # type: ignore[misc]
    if origin is Annotated:
        return Annotated[(_field_type(args[0]), *args[1:])]  # type: ignore[return-value]
    return hint


_TENSOR_SCHEMA = {
    "description": "a tensor: from a file, or from a registered maker",
    "oneOf": [
        {"type": "object", "required": ["file"], "properties": {"file": {"type": "string"}, "key": {"type": "string"}}},
        {"type": "object", "required": ["make"], "properties": {"make": {"type": "string"}}},
    ],
}


def _as_tensor(value: Any) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.ndarray):
        return from_numpy(value)
    if isinstance(value, Mapping):
        return load_tensor(value)
    raise ValueError(f"expected a tensor, an array, {{'file': …}} or {{'make': …}}; given {type(value).__name__}")


def _as_component(base: type[Component], value: Any) -> Component:
    built = registry.build(base.kind, value) if isinstance(value, str | Mapping) else value
    if not isinstance(built, base):
        raise ValueError(f"expected {base.__name__}, a name or a mapping; given {type(value).__name__}")
    return built


def from_numpy(array: np.ndarray) -> torch.Tensor:
    """A copy as a tensor. NumPy has no habit of float32, so float64 becomes torch's default dtype."""
    tensor = torch.from_numpy(np.array(array, order="C", copy=True))
    if tensor.is_complex():
        return tensor.to(torch.complex64 if torch.get_default_dtype() == torch.float32 else torch.complex128)
    return tensor.to(torch.get_default_dtype()) if tensor.is_floating_point() else tensor


def load_tensor(source: Mapping[str, Any]) -> torch.Tensor:
    """The tensor of ``{"file": path, "key": …}`` or ``{"make": name, parameter: value, …}``."""
    source = dict(source)
    if "make" in source:
        return registry.make(source.pop("make"), **source)
    if "file" not in source or set(source) - {"file", "key"}:
        raise SpecError(
            f"A tensor is {{'file': …, 'key': …}} or {{'make': …, …}}; given keys {sorted(map(str, source))}"
        )
    if not isinstance(source["file"], str | Path):
        raise SpecError(f"The file of a tensor is a path, given {source['file']!r:.60}.")
    path = Path(source["file"])
    if not path.exists():
        raise DataError(f"File {path} does not exist (looked from {Path.cwd()}).")
    value = registry.get("readers", reader_name(path))(path, source.get("key"))
    return from_numpy(value) if isinstance(value, np.ndarray) else value


def reader_name(path: Path) -> str:
    """The name under which the reader of a file is registered: its suffix; a folder is a DICOM series."""
    if path.is_dir():
        return "dcm"
    name = path.name.lower()
    return "nii.gz" if name.endswith(".nii.gz") else path.suffix.lstrip(".").lower() or name


# --- validating ---------------------------------------------------------------------------------


def checked(target: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments by name, validated; SpecError naming the parameter, what was given and expected."""
    model = spec_type(target)
    known = list(model.model_fields)
    if len(args) > len(known):
        raise SpecError(f"{target.__name__} takes {len(known)} parameters ({', '.join(known)}); given {len(args)}")
    values = dict(zip(known, args, strict=False))
    for name, value in kwargs.items():
        if name in values:
            raise SpecError(f"{target.__name__}: {name!r} is given twice")
        if name not in known:
            raise SpecError(f"{target.__name__} has no parameter {name!r}.{suggest(name, known)}")
        values[name] = value
    try:
        return model.model_validate({k: _plain(v) for k, v in values.items()}).values()
    except ValidationError as error:
        raise _translated(target.__name__, error) from error


def call_checked(function: Callable[..., Any], parameters: Mapping[str, Any]) -> Any:
    """Call a registered function (a maker) with validated parameters."""
    return function(**checked(function, (), parameters))


def _plain(value: Any) -> Any:
    """Lists become tuples and NumPy scalars Python numbers; nothing else is converted."""
    if isinstance(value, list | torch.Size):
        return tuple(_plain(v) for v in value)
    return value.item() if isinstance(value, np.generic) else value


def _translated(label: str, error: ValidationError) -> PnpkitError:
    problems = []
    for item in error.errors():
        original = item.get("ctx", {}).get("error")
        if isinstance(original, PnpkitError):
            return original
        field = ".".join(str(part) for part in item["loc"] if not str(part).startswith("function-"))
        given = item["input"]
        shown = f"tensor {tuple(given.shape)}" if isinstance(given, torch.Tensor) else repr(given)[:80]
        missing = item["type"] == "missing"
        problems.append(f"{field}: {'required' if missing else item['msg'] + ', given ' + shown}")
    return SpecError(f"{label}: " + "; ".join(problems))


# --- saving -------------------------------------------------------------------------------------


def encode(value: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    """JSON form and the tensors it refers to, keyed by sha256; ``decode`` is the inverse."""
    tensors: dict[str, torch.Tensor] = {}
    return _encode(value, tensors), tensors


def _encode(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        key = tensor_digest(value)
        tensors[key] = value.detach()
        return {"sha256": key}
    if isinstance(value, Component):
        cls = type(value)
        name = registry.name_of(value.kind, cls) or f"{cls.__module__}:{cls.__qualname__}"
        own = {} if value.precision in (None, torch.float32) else {"precision": str(value.precision)[6:]}
        return {"name": name} | own | _encode(value.spec, tensors)
    if isinstance(value, Spec):
        return {k: _encode(getattr(value, k), tensors) for k in type(value).model_fields}
    if isinstance(value, Mapping):
        return {str(k): _encode(v, tensors) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_encode(v, tensors) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise SpecError(f"A {type(value).__name__} cannot be saved; parameters are numbers, strings, tensors, components")


def decode(config: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """The config with ``{"sha256": …}`` replaced by its tensor, ready for ``registry.build``."""
    if isinstance(config, Mapping):
        if set(config) == {"sha256"}:
            if config["sha256"] not in tensors:
                raise DataError(f"The tensor {config['sha256'][:12]}… is missing from the file.")
            return tensors[config["sha256"]]
        return {k: decode(v, tensors) for k, v in config.items()}
    return [decode(v, tensors) for v in config] if isinstance(config, list) else config


def rebuild(kind: str, config: Config, tensors: Mapping[str, torch.Tensor]) -> Any:
    """A component from its saved form."""
    return registry.build(kind, decode(config, tensors))


def digest(component: Component) -> str:
    """sha256 of a component: its registered name, parameters and tensors."""
    return json_digest(encode(component)[0])


def json_digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def tensor_digest(tensor: torch.Tensor) -> str:
    """sha256 over dtype, shape and bytes."""
    flat = tensor.detach().cpu().resolve_conj().contiguous().reshape(-1).view(torch.uint8).numpy()
    head = f"{tensor.dtype}{tuple(tensor.shape)}".encode()
    return hashlib.sha256(head + flat.tobytes()).hexdigest()


__all__ = [
    "Component", "ComponentMeta", "Spec", "call_checked", "checked", "decode", "digest",
    "encode", "from_numpy", "load_tensor", "rebuild", "spec_type", "tensor_digest",
]  # fmt: skip
