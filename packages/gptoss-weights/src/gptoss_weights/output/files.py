"""The files of an output: bytes are written, or copied from other files, at any place of any of them.

Copying is left to the kernel (`copy_file_range`), which may share blocks instead. Where it declines
(another file system, an old kernel) the bytes go through a buffer. Meanwhile other threads hash the
source, unless its checksum is known, and go on with that while the next bytes are copied.
"""

import contextlib
import errno
import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from gptoss_weights.checkpoint import StoredArray
from gptoss_weights.errors import CheckpointError
from gptoss_weights.file_hashing import FileRange, hash_range
from gptoss_weights.processors import available_cores
from gptoss_weights.tiled_copy import in_c_order

__all__ = ["OutputFiles"]

_COPIED_BYTES = 64 << 20  # at a time, so that a signal is heard soon
_BUFFER_BYTES = 8 << 20
_SYNCED_BYTES = 256 << 20
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DECLINED = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF})


class OutputFiles:
    """Files below a folder, opened when they are first needed; a context manager that closes them.

    Args:
        folder: Where they are.
        known_checksum: BLAKE3 of a stored array, if somebody has noted it.
        starts_sync: Whether to send to the disk what is written while the next bytes are; to wait for
            the rest is the caller's.
    """

    def __init__(
        self,
        folder: Path,
        *,
        known_checksum: Callable[[StoredArray], str | None] = lambda _: None,
        starts_sync: bool = False,
    ) -> None:
        self.folder = folder
        self._known_checksum = known_checksum
        self._starts_sync = starts_sync
        self._unsynced_bytes = 0
        self._syncing: Future[None] | None = None
        self._opened = contextlib.ExitStack()
        self._targets: dict[str, int] = {}
        self._sources: dict[Path, int] = {}

    def __enter__(self) -> "OutputFiles":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._opened.close()
        if kind is None and self._syncing is not None:
            self._syncing.result()

    def write(self, name: str, offset: int, content: bytes | memoryview | np.ndarray) -> None:
        """Writes bytes, or an array in C order, from `offset` on."""
        if isinstance(content, np.ndarray):
            content = in_c_order(content).reshape(-1).view(np.uint8).data
        with self._names_full_file(name):
            _write(self._target(name), memoryview(content), offset)
        self._start_sync(name, len(content))

    def copy(self, name: str, offset: int, source: StoredArray) -> str | Future[str]:
        """Writes the bytes of a stored array from `offset` on.

        Returns:
            Their BLAKE3: what is known of the source, or what its bytes will be found to be. It is not
            taken from the copy, so that it also tells whether copying went well.

        Raises:
            CheckpointError: the source has become shorter.
        """
        known = self._known_checksum(source)
        if known is not None:
            self._copy_bytes(name, offset, source)
            return known
        hashing = self._hasher.submit(hash_range, FileRange(source.path, source.offset, source.offset + source.nbytes))
        self._copy_bytes(name, offset, source)
        return hashing

    @functools.cached_property
    def _hasher(self) -> ThreadPoolExecutor:
        pool = ThreadPoolExecutor(available_cores())
        self._opened.callback(pool.shutdown, cancel_futures=True)  # what nobody has waited for is not wanted
        return pool

    def _copy_bytes(self, name: str, offset: int, source: StoredArray) -> None:
        target, origin = self._target(name), self._source(source.path)
        position, end = source.offset, source.offset + source.nbytes
        while position < end:
            with self._names_full_file(name):
                copied = _copy(origin, target, position, offset, min(end - position, _COPIED_BYTES))
            if not copied:
                raise CheckpointError("the file has become shorter while it was read", where=source.path)
            position, offset = position + copied, offset + copied
            self._start_sync(name, copied)

    @contextlib.contextmanager
    def _names_full_file(self, name: str) -> Iterator[None]:
        """Says which file found no room: the system's calls on open files do not."""
        try:
            yield
        except OSError as error:
            if error.errno in _NO_ROOM and error.filename is None:
                error.filename = str(self.folder / name)
            raise

    def _start_sync(self, name: str, nbytes: int) -> None:
        """Counts what is written; once there is enough of it, another thread waits for the disk."""
        if not self._starts_sync:
            return
        self._unsynced_bytes += nbytes
        if self._unsynced_bytes < _SYNCED_BYTES or not (self._syncing is None or self._syncing.done()):
            return
        if self._syncing is not None:
            self._syncing.result()  # raises what went wrong: the system tells it only once
        self._unsynced_bytes = 0
        self._syncing = self._syncer.submit(os.fdatasync, self._target(name))

    @functools.cached_property
    def _syncer(self) -> ThreadPoolExecutor:
        return self._opened.enter_context(ThreadPoolExecutor(1))

    def set_size(self, name: str, nbytes: int) -> None:
        """Gives a file its final size; what is not written yet reads as zeros and takes no room."""
        with self._names_full_file(name):
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
    _write(target, memoryview(chunk), target_offset)
    return len(chunk)


def _write(target: int, rest: memoryview, offset: int) -> None:
    """Writes all bytes; one call of the system may take a part of them only."""
    while rest:
        written = os.pwrite(target, rest, offset)
        rest, offset = rest[written:], offset + written
