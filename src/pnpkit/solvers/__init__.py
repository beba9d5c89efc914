"""Algorithms as pure pairs ``init`` / ``step``; the contract is in ``base``."""

from pnpkit.registry import lazy_names

__getattr__ = lazy_names("solvers")
