"""Where planted bugs are registered with the checks that must reject them."""

BUGS: list[tuple[type, str]] = []


def caught_by(*checks: str):
    """Register a wrong class with the names of the checks that must reject it."""

    def register(cls: type) -> type:
        BUGS.extend((cls, name) for name in checks)
        return cls

    return register
