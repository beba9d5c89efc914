"""``python -m pnpkit``, for torchrun."""

from pnpkit.cli import main

if __name__ == "__main__":
    main()
