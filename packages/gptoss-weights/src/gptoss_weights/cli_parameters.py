"""Kinds of argument that every command line of the toolkit takes, as types of click parameters.

@click.argument("checkpoint", type=CHECKPOINT_PATH)
"""

from pathlib import Path
from typing import Any

import click

from gptoss_weights.places import as_place

__all__ = ["CHECKPOINT_PATH", "OUTPUT_PATH", "CheckpointPath", "OutputPath"]

EMPTY = "it is empty; write . for the current folder"


class CheckpointPath(click.Path):
    """What `open_checkpoint` takes: a folder or file as `Path`, or a URL such as `gs://bucket/run/0/items` as text.

    `file://…` is a path too.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        """The path or URL; an empty one, left by an unset variable of a shell, is a usage error."""
        if not isinstance(value, Path) and not value:
            self.fail(EMPTY, param, ctx)
        return as_place(value)


class OutputPath(click.Path):
    """A folder or file to write, on this machine, as `Path`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path; an empty one, left by an unset variable of a shell, is a usage error."""
        if not isinstance(value, Path) and not value:
            self.fail(EMPTY, param, ctx)
        return Path(value)


CHECKPOINT_PATH = CheckpointPath()
OUTPUT_PATH = OutputPath()
