"""The files of an output: bytes are written, or copied from other files, at any place of any of them.

Copying is left to the kernel (`copy_file_range`), which may share blocks instead, and never brings
the bytes into this process. Where it declines (another file system, an old kernel) they go through a
buffer.
"""

import contextlib
import errno
import os
from pathlib import Path

import numpy as np

from gptoss_weights.checkpoint import StoredArray
from gptoss_weights.errors import CheckpointError

__all__ = ["OutputFiles"]

_COPIED_BYTES = 64 << 20  # at a time, so that a signal is heard soon
_BUFFER_BYTES = 8 << 20
_DECLINED = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF})


class OutputFiles:
    """Files below a folder, opened when they are first needed; a context manager that closes them.

    Args:
        folder: Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._opened = contextlib.ExitStack()
        self._targets: dict[str, int] = {}
        self._sources: dict[Path, int] = {}

    def __enter__(self) -> "OutputFiles":
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def write(self, name: str, offset: int, content: bytes | memoryview | np.ndarray) -> None:
        """Writes bytes, or an array in C order, from `offset` on."""
        if isinstance(content, np.ndarray):
            content = np.ascontiguousarray(content).reshape(-1).view(np.uint8).data
        rest = memoryview(content)
        while rest:
            written = os.pwrite(self._target(name), rest, offset)
            rest, offset = rest[written:], offset + written

    def copy(self, name: str, offset: int, source: StoredArray) -> None:
        """Writes the bytes of a stored array from `offset` on.

        Raises:
            CheckpointError: the source has become shorter.
        """
        target, origin = self._target(name), self._source(source.path)
        position, end = source.offset, source.offset + source.nbytes
        while position < end:
            copied = _copy(origin, target, position, offset, min(end - position, _COPIED_BYTES))
            if not copied:
                raise CheckpointError("the file has become shorter while it was read", where=source.path)
            position, offset = position + copied, offset + copied

    def set_size(self, name: str, nbytes: int) -> None:
        """Gives a file its final size; what is not written yet reads as zeros and takes no room."""
        os.ftruncate(self._target(name), nbytes)

    def _target(self, name: str) -> int:
        if name not in self._targets:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            self._targets[name] = self._open(path, os.O_WRONLY | os.O_CREAT)
        return self._targets[name]

    def _source(self, path: Path) -> int:
        if path not in self._sources:
            self._sources[path] = self._open(path, os.O_RDONLY)
        return self._sources[path]

    def _open(self, path: Path, flags: int) -> int:
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o666)
        self._opened.callback(os.close, descriptor)
        return descriptor


def _copy(source: int, target: int, source_offset: int, target_offset: int, nbytes: int) -> int:
    """Copies at most `nbytes` bytes and returns how many; 0 at the end of the source."""
    if hasattr(os, "copy_file_range"):
        try:
            return os.copy_file_range(source, target, nbytes, source_offset, target_offset)
        except OSError as error:
            if error.errno not in _DECLINED:
                raise
    chunk = os.pread(source, min(nbytes, _BUFFER_BYTES), source_offset)
    rest, position = memoryview(chunk), target_offset
    while rest:
        written = os.pwrite(target, rest, position)
        rest, position = rest[written:], position + written
    return len(chunk)
