"""Other libraries' parts as ours, and ours as theirs: deepinv, sigpy, scipy.

``from_*`` wraps an object that is passed; it has no name in the registry, and is saved only as far as its owner's class
can be. Numbers are exact: a wrapper changes axes and conventions, never values.
"""
