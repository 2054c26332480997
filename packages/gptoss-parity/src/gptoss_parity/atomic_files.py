"""Writing a file so that its name never shows half of it: a temporary neighbour, then a rename."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["replace_file", "write_bytes"]

_NEW_FILE_MODE = 0o666  # before the umask; temporary files are made private


@contextlib.contextmanager
def replace_file(path: Path) -> Iterator[BinaryIO]:
    """A binary stream whose contents become `path` when the block ends, and vanish if it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(_NEW_FILE_MODE & ~_umask())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Makes `content` the whole of `path`, or leaves `path` as it was."""
    with replace_file(path) as stream:
        stream.write(content)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
