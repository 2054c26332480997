"""The `gptoss-weights` command."""

import click

__all__ = ["main"]


@click.group()
@click.version_option(package_name="gptoss-weights")
def main() -> None:
    """Placeholder until the package's commands land."""
