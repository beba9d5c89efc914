"""Shared fixtures. Tests on real data need PNPKIT_DATA; without it they skip and say so."""

import os
import sys
from pathlib import Path

import pytest
import torch

from pnpkit import cli


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


@pytest.fixture
def pnpkit(monkeypatch, capsys):
    """Run a command line; returns (exit code, stdout, stderr)."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pnpkit", *arguments])
        monkeypatch.setenv("COLUMNS", "200")
        try:
            cli.main()
            code = 0
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
