"""Files that appear whole or not at all, and are still there after a power failure.

    with replaced_file(path) as stream:
        stream.write(content)

A name comes to stand for new content in four steps: another name beside it is written, the content is
synced to disk, the file is renamed, and the folder, which holds the names, is synced too. Files and
folders made here have the permissions that the umask leaves, as any others.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["folder_beside", "name_beside", "replaced_file", "sync", "sync_tree", "write_durably"]


def name_beside(path: Path) -> Path:
    """A hidden name in the same folder that nothing has yet."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


def folder_beside(path: Path) -> Path:
    """Makes an empty folder of such a name, which can be renamed to `path` later.

    Raises:
        OSError: it cannot be made.
    """
    folder = name_beside(path)
    folder.mkdir()
    return folder


@contextlib.contextmanager
def replaced_file(path: Path) -> Iterator[BinaryIO]:
    """A stream whose content becomes that of `path` when the block ends; if the block fails, nothing changes.

    Raises:
        OSError: it cannot be written.
    """
    draft = name_beside(path)
    try:
        with draft.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_durably(path: Path, content: bytes) -> None:
    """Makes `content` the whole of `path`, or leaves `path` as it was.

    Raises:
        OSError: it cannot be written.
    """
    with replaced_file(path) as stream:
        stream.write(content)


def sync(path: Path) -> None:
    """Waits until the disk has a file, or the names in a folder.

    Raises:
        OSError: it is not there, or the disk has failed.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Waits until the disk has all files below a folder, and their names.

    Raises:
        OSError: as `sync`.
    """
    for root, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync(Path(root, name))
        sync(Path(root))
