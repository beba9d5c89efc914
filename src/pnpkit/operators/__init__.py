"""Forward operators y = A(x; theta), one a file; the contract is in ``base``."""

from pnpkit.registry import lazy_names

__getattr__ = lazy_names("operators")
