"""What the loop shows while it runs: a line that is overwritten, on a terminal only."""

import sys
from collections.abc import Mapping
from typing import Any

import click

__all__ = ["ProgressBar"]

WIDTH = 24
CLEAR_LINE = "\r\x1b[K"


class ProgressBar:
    """Steps that are done, of how many; before the first one, that the step is being compiled.

    Args:
        steps: All of them.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._is_shown = sys.stderr.isatty()
        self._show("compiling …")

    def write(self, line: Mapping[str, Any]) -> None:
        """Shows a step's line."""
        filled = WIDTH * line["step"] // self._steps
        bar = "█" * filled + "░" * (WIDTH - filled)
        loss = "no number" if line["loss"] is None else f"{line['loss']:.4f}"
        text = f"{bar} {line['step']}/{self._steps}  loss {loss}  {line['tokens_per_second']:.0f} tokens/s"
        self._show(text)

    def close(self) -> None:
        """Takes it away."""
        self._show("")

    def _show(self, text: str) -> None:
        if self._is_shown:
            click.echo(f"{CLEAR_LINE}{text}", err=True, nl=False)
