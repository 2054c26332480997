"""`gptoss-weights doctor`: versions, optional features, what is missing and how to install it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gptoss_weights.cli.options import as_json
from gptoss_weights.cli_installation import print_features, print_installation

if TYPE_CHECKING:
    from gptoss_weights.doctor import Diagnosis

__all__ = ["doctor"]

_GB = 1e9


@click.command
@click.option(
    "--require",
    multiple=True,
    type=click.Choice(["orbax", "text"]),
    help="Fail if this optional feature cannot be used; may be given several times.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Where checkpoints will be written, for the free disk space; by default here.",
)
@as_json
def doctor(require: tuple[str, ...], folder: Path, as_json: bool) -> None:
    """Says what is installed, what is missing and how to install it, and what fits on this machine.

    Exit code 0, or 5 if something that is always needed, or a feature named by --require, is missing,
    too old or broken.

    \b
    Examples:
      gptoss-weights doctor
      gptoss-weights doctor --require orbax --folder models
      gptoss-weights doctor --json
    """  # noqa: D301 - the backslash is meant for click
    from gptoss_weights.doctor import diagnose, require_features
    from gptoss_weights.errors import MissingDependencyError

    diagnosis = diagnose(folder)
    if as_json:
        click.echo(json.dumps(diagnosis.to_json(), indent=2))
    else:
        _print(diagnosis)
    if diagnosis.problems:
        raise MissingDependencyError("; ".join(diagnosis.problems))
    require_features(diagnosis, require)


def _print(diagnosis: "Diagnosis") -> None:
    print_installation("gptoss-weights", diagnosis)
    print_features(diagnosis.features)
    click.echo(f"\nfree disk space in {diagnosis.folder}: {diagnosis.free_disk_bytes / _GB:.1f} GB")
    if diagnosis.free_memory_bytes is not None:
        click.echo(
            f"free memory: {diagnosis.free_memory_bytes / _GB:.1f} GB; reading, verifying and converting take "
            "about 1 GB at any size, running a model takes its whole size"
        )
    for name, nbytes in diagnosis.checkpoint_bytes.items():
        fits = "fits on this disk" if nbytes <= diagnosis.free_disk_bytes else "does not fit on this disk"
        click.echo(f"  {name:<30}{nbytes / _GB:>7.1f} GB, {fits}")
