"""How the doctor of every package shows what is installed."""

from collections.abc import Sequence

import click

from gptoss_weights.installation import Feature, Installation

__all__ = ["print_features", "print_installation"]


def print_installation(package: str, installation: Installation) -> None:
    """A line each for the package, Python, the machine, and what is always needed."""
    rows = [
        (package, installation.version),
        ("Python", installation.python),
        ("machine", installation.machine),
        *((found.name, found.problem or found.version or "not needed here") for found in installation.dependencies),
    ]
    for label, value in rows:
        click.echo(f"{label:<24}{value}")


def print_features(features: Sequence[Feature]) -> None:
    """A line for each optional feature, with the command that installs it where it is missing."""
    click.echo("\noptional features")
    for feature in features:
        state = f"{feature.problem}; {feature.install}" if feature.problem else f"{feature.module} {feature.version}"
        click.echo(f"  {feature.name:<22}{state} (to {feature.purpose})")
