"""Shared fixtures. Tests on real data need PNPKIT_DATA; without it they skip and say so."""

import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data, from the environment variable PNPKIT_DATA."""
    folder = os.environ.get("PNPKIT_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs real data: set PNPKIT_DATA to the data folder")
    return Path(folder)


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)
