"""``python -m pnpkit``, for torchrun."""

from pnpkit.cli import main

main()
