"""Aliases used across the package."""

from collections.abc import Mapping
from typing import Any

import torch

Shape = tuple[int, ...]
Scalar = float | torch.Tensor  # a number, a 0-d tensor, or one value per sample (B,)
Config = str | Mapping[str, Any]  # a registered name, or {"name": …, parameter: value, …}
