"""The package as installed: what importing it costs, what it ships, what it exports."""

import subprocess
import sys
from importlib.metadata import version
from importlib.resources import files

import pytest

import pnpkit

HEAVY = ("deepinv", "sigpy", "torchvision", "lpips", "torchkbnufft", "matplotlib", "scipy")


def test_import_loads_no_heavy_package():
    script = f"import sys, pnpkit; print(*(m for m in {HEAVY} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_version_is_the_distribution_s():
    assert pnpkit.__version__ == version("pnpkit")


def test_typing_marker_is_shipped():
    assert files("pnpkit").joinpath("py.typed").is_file()


@pytest.mark.parametrize("name", pnpkit.__all__)
def test_public_name_is_importable(name):
    assert getattr(pnpkit, name) is not None
    assert name in dir(pnpkit)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'reconstuct'"):
        pnpkit.reconstuct  # noqa: B018


def test_public_names_survive_any_order_of_imports():
    """Importing a submodule sets it as an attribute of the package; it must not hide a function."""
    script = (
        "import importlib, inspect, pnpkit\n"
        "for module in set(pnpkit._PUBLIC.values()): importlib.import_module(module)\n"
        "print(*(n for n in pnpkit._PUBLIC if inspect.ismodule(getattr(pnpkit, n))))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
