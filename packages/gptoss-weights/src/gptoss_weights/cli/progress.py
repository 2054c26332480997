"""A bar of bytes on standard error, where that is a terminal, and what to do after an interruption."""

import contextlib
import sys
from collections.abc import Callable, Iterator

import click

__all__ = ["byte_progress"]


@contextlib.contextmanager
def byte_progress(nbytes: int, *, label: str) -> Iterator[Callable[[int], object]]:
    """Gives a function to call with the number of bytes that were just written.

    Args:
        nbytes: How many there will be.
        label: What is being done.
    """
    try:
        if sys.stderr.isatty():
            with click.progressbar(length=nbytes, label=label, file=sys.stderr) as bar:
                yield bar.update
        else:
            yield lambda _: None
    except Exception:
        raise
    except BaseException:  # an interruption
        click.echo("What is written so far is kept; the same command goes on from there.", err=True)
        raise
