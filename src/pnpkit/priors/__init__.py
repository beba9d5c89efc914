"""What is known about images before measuring; the contracts are in ``base``."""

from pnpkit.registry import lazy_names

__getattr__ = lazy_names("priors")
