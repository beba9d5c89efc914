"""Checks on the cards of shipped weights."""

from pathlib import Path
from typing import Any

from pnpkit import registry
from pnpkit.priors.weights import file_digest
from pnpkit.testing.core import check
from pnpkit.testing.measure import expect

TOLD = ("name", "about", "prior", "terms", "recipe", "command", "samples", "seconds", "machine", "validation", "sha256")
LARGEST = 12.5e6


@check("weights")
def check_card_complete(card: dict[str, Any]) -> None:
    """Architecture, data with their terms, recipe, command, wall time, machine, scores and sha256 are all there."""
    missing = [key for key in TOLD if not card.get(key)]
    expect(not missing, f"the card does not tell {', '.join(missing)}")


@check("weights")
def check_file_is_the_cards(card: dict[str, Any]) -> None:
    """The file has the card's sha256 and is small enough for a repository."""
    path = Path(card["file"])
    expect(path.is_file(), f"{path} is not there")
    expect(file_digest(path) == card["sha256"], f"{path} has another sha256 than its card")
    expect(path.stat().st_size <= LARGEST, f"{path} has {path.stat().st_size / 1e6:.1f} MB")


@check("weights")
def check_prior_loads(card: dict[str, Any]) -> None:
    """The name alone makes the prior."""
    prior = registry.prior(card["name"])
    expect(registry.name_of("priors", prior) == card["prior"], f"{card['name']} made a {type(prior).__name__}")
