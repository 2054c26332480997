"""A memory-mapped file whose resident pages are let go of now and then.

Pages of a map count as memory of the process until they are unmapped, and a whole checkpoint read
through its files would count in full. Letting go of them keeps every view valid: whoever looks again
finds the page in the system's cache. The bound is one for all files of the process: a checkpoint has
many.
"""

import functools
import mmap
import threading
import weakref
from pathlib import Path

import numpy as np

from gptoss_weights.checkpoint import StoredArray

__all__ = ["MappedFile"]

RESIDENT_BYTES = 128 << 20  # of views handed out, of all files, before the pages behind them are let go of

_files: weakref.WeakSet["MappedFile"] = weakref.WeakSet()
_counting = threading.Lock()


class MappedFile:
    """Views of a file; the map is made when it is first needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handed_out = 0

    def view(self, stored: StoredArray) -> np.ndarray:
        """A read-only array on the file's own bytes, at whatever alignment they have."""
        with _counting:
            if sum(file._handed_out for file in _files) + stored.nbytes > RESIDENT_BYTES:
                for file in _files:
                    file._let_go()
            self._handed_out += stored.nbytes
            _files.add(self)
        count = stored.nbytes // stored.dtype.itemsize
        return np.frombuffer(self._map, stored.dtype, count, stored.offset).reshape(stored.shape)

    def _let_go(self) -> None:
        if "_map" in vars(self):
            self._map.madvise(mmap.MADV_DONTNEED)
        self._handed_out = 0

    @functools.cached_property
    def _map(self) -> mmap.mmap:
        with self._path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
