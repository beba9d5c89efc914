"""Noise-level schedules as pure functions."""

import math


def log_spaced(start: float, end: float, n: int) -> tuple[float, ...]:
    """n values from start to end, equally spaced in the logarithm; start alone when n = 1."""
    if n == 1:
        return (end,)
    step = (math.log(end) - math.log(start)) / (n - 1)
    return tuple(math.exp(math.log(start) + i * step) for i in range(n - 1)) + (end,)
