"""Arguments and options that several commands share."""

from pathlib import Path

import click

__all__ = ["as_json", "checkpoint_argument", "config_option"]

checkpoint_argument = click.argument("checkpoint", type=click.Path(path_type=Path))
config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A config.json in either dialect, if it does not stand in the folder.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print a JSON document instead of text.")
