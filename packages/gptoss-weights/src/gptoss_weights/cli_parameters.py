"""Kinds of argument that every command line of the toolkit takes, as types of click parameters.

@click.argument("checkpoint", type=CHECKPOINT_PATH)
"""

from pathlib import Path
from typing import Any

import click

from gptoss_weights.places import as_place

__all__ = ["CHECKPOINT_PATH", "CheckpointPath"]


class CheckpointPath(click.Path):
    """What `open_checkpoint` takes: a folder or file as `Path`, or a URL such as `gs://bucket/run/0/items` as text.

    `file://…` is a path too.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        """The path or URL; an empty one, left by an unset variable of a shell, is a usage error."""
        if not isinstance(value, Path) and not value:
            self.fail("it is empty; write . for the current folder", param, ctx)
        return as_place(value)


CHECKPOINT_PATH = CheckpointPath()
