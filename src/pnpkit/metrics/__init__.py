"""Figures of merit; the convention of each is in its docstring."""

from pnpkit.registry import lazy_names

__getattr__ = lazy_names("metrics")
