"""YAML files that hold a mapping: configs and recipes."""

import re
from pathlib import Path
from typing import Any

from pnpkit.errors import DataError, SpecError


def read_mapping(path: Path, what: str, holds: str = "") -> dict[str, Any]:
    """The mapping in a YAML file, with YAML 1.2 numbers: ``1e-6`` is a float (PyYAML follows 1.1: a string).

    what : names the file in errors ("Config"); holds : what it should hold (" with operator and noise").
    Raises DataError if there is no such file, SpecError if it is not YAML or not a mapping.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    number = re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    if not path.is_file():
        raise DataError(f"{what} {path} does not exist.")
    try:
        told = yaml.load(path.read_text(), Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(told, dict):
        raise SpecError(f"{path} must hold a mapping{holds}; it holds {type(told).__name__}.")
    return told


def lines_of(path: Path) -> dict[tuple[Any, ...], int]:
    """The line (from 1) at which every entry of a YAML file stands, by its keys: ("methods", "TV", "solver")."""
    import yaml

    found: dict[tuple[Any, ...], int] = {}

    def visit(node: Any, place: tuple[Any, ...]) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                found[(*place, key.value)] = key.start_mark.line + 1
                visit(value, (*place, key.value))
        elif isinstance(node, yaml.SequenceNode):
            for i, value in enumerate(node.value):
                found[(*place, i)] = value.start_mark.line + 1
                visit(value, (*place, i))

    visit(yaml.compose(path.read_text()), ())
    return found
