"""What a command is doing, on standard error where that is a terminal."""

import contextlib
import itertools
import sys
from collections.abc import Iterator

import click

__all__ = ["status", "until_first"]

CLEAR_LINE = "\r\x1b[K"


@contextlib.contextmanager
def status(text: str) -> Iterator[None]:
    """Shows a line while the block runs, and takes it away again."""
    if not sys.stderr.isatty():
        yield
        return
    click.echo(f"{text} …", err=True, nl=False)
    try:
        yield
    finally:
        click.echo(CLEAR_LINE, err=True, nl=False)


def until_first[T](text: str, items: Iterator[T]) -> Iterator[T]:
    """The items, and until the first one is there, the line."""
    with status(text):
        first = list(itertools.islice(items, 1))
    yield from first
    yield from items
