"""BLAKE3 of ranges of files, as many at a time as there are cores; a buffer of a megabyte each.

Hashing and reading work outside the interpreter's lock.
"""

import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from gptoss_weights.errors import CheckpointError
from gptoss_weights.processors import available_cores

__all__ = ["FileRange", "hash_range", "hash_ranges"]

_BUFFER_BYTES = 1 << 20  # stays in a core's cache between reading and hashing


class FileRange(NamedTuple):
    """The bytes start … stop − 1 of a file."""

    path: Path
    start: int
    stop: int


def hash_range(wanted: FileRange, *, on_bytes: Callable[[int], object] = lambda _: None) -> str:
    """BLAKE3 of the bytes of a range, in hexadecimal.

    Args:
        wanted: The range.
        on_bytes: Called with the number of bytes that have been hashed since the last call.

    Raises:
        CheckpointError: the file ends before the range does.
    """
    hashed, rest = blake3(), wanted.stop - wanted.start
    buffer = memoryview(bytearray(min(_BUFFER_BYTES, rest)))
    with wanted.path.open("rb", buffering=0) as file:
        file.seek(wanted.start)
        while rest:
            count = file.readinto(buffer[:rest])
            if not count:
                raise CheckpointError("the file has become shorter while it was read", where=wanted.path)
            hashed.update(buffer[:count])
            rest -= count
            on_bytes(count)
    return hashed.hexdigest()


def hash_ranges(
    ranges: Iterable[FileRange], *, on_bytes: Callable[[int], object] | None = None
) -> Generator[str, None, None]:
    """BLAKE3 of each range, in their order.

    Args:
        ranges: The ranges.
        on_bytes: As in `hash_range`; called from other threads, but never from two at a time.

    Raises:
        CheckpointError: as `hash_range`.
    """
    is_abandoned, one_at_a_time = threading.Event(), threading.Lock()

    def count(nbytes: int) -> None:
        if is_abandoned.is_set():
            raise CancelledError
        if on_bytes is not None:
            with one_at_a_time:
                on_bytes(nbytes)

    with ThreadPoolExecutor(available_cores()) as pool:
        try:
            yield from pool.map(lambda wanted: hash_range(wanted, on_bytes=count), ranges)
        finally:
            is_abandoned.set()
