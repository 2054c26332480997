"""What several commands print: numbers, and the files of a conversion."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from gptoss_weights.conversion import Conversion

__all__ = ["grouped", "print_files", "print_written"]


def grouped(number: int) -> str:
    """A whole number with its digits in groups of three."""
    return f"{number:,}".replace(",", " ")


def print_files(files: Mapping[str, int]) -> None:
    """A line for each file, its size first, and their sum."""
    for name, nbytes in files.items():
        click.echo(f"{grouped(nbytes):>17}  {name}")
    click.echo(f"{grouped(sum(files.values())):>17}  bytes in all")


def print_written(target: Path | str, result: "Conversion") -> None:
    """A line of what stands there now."""
    click.echo(f"{target}: {result.format}, {grouped(result.nbytes)} bytes")
