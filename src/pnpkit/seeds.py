"""Seeds of solvers and samplers."""

import torch

OWN = 0x5EED_50_17E5  # native/src/solvers.cpp has the same


def stream(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The random numbers that ``seed`` stands for in solvers; not those of ``torch.Generator().manual_seed(seed)``.

    Data are often simulated with the seed that a solver is then given: the noise of a chain would be that of its data,
    and its error not what it is with other data.
    """
    return torch.Generator(device).manual_seed((seed + OWN) % 2**64)
