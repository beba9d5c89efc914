"""Weights shipped with pnpkit: NAME.safetensors and its card NAME.json.

Another package ships weights by a function like ``card`` and an entry point ``NAME = "package:card"`` in the group
``pnpkit.weights``.
"""

import json
from pathlib import Path
from typing import Any

from pnpkit.errors import WeightsError


def card(name: str) -> dict[str, Any]:
    """What is known of shipped weights: the prior they are for, where the file is, data, terms, recipe, scores."""
    path = Path(__file__).parent / f"{name}.json"
    if not path.is_file():
        raise WeightsError(f"The card {path} is missing; reinstall pnpkit.")
    return {**json.loads(path.read_text()), "file": str(path.with_suffix(".safetensors"))}
