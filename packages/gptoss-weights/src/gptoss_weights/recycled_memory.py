"""Large new arrays on memory that earlier ones have left, since fresh pages can cost more than filling them.

The system clears each page before it hands it out, and a virtual machine that has given its free
memory back has to fetch it first: 0.05 to 2 s of CPU time a gigabyte were measured, against 0.3 s for
decoding one. So what an array leaves is kept for the next one. It is marked (MADV_FREE) so that the
system takes it the moment that memory runs short; until then it counts as the process's own.
"""

import contextlib
import math
import mmap
import sys

import numpy as np
from numpy.typing import DTypeLike

__all__ = ["KEPT_BYTES", "recycled_empty"]

KEPT_BYTES = 5 << 28  # 1.25 GiB: a whole layer's gate_up_proj of gpt-oss-20b in bfloat16, 1.06 GB, and some
_SMALLEST_BYTES = 4 << 20  # below, numpy's own memory is reused by the C library already
_CAN_BE_FREED = all(hasattr(mmap, name) for name in ("MADV_FREE", "MAP_PRIVATE", "MAP_ANONYMOUS"))

_kept: list[mmap.mmap] = []


def recycled_empty(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """As `numpy.empty`: a new array of whatever values, which shares memory with no other that is still in use."""
    dtype = np.dtype(dtype)
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < _SMALLEST_BYTES or not _CAN_BE_FREED:
        return np.empty(shape, dtype)
    return np.frombuffer(_Lease(_storage_for(nbytes), nbytes), dtype).reshape(shape)


class _Lease:
    """The buffer behind an array: it lives as long as any view of that, and then gives the memory back."""

    def __init__(self, storage: mmap.mmap, nbytes: int) -> None:
        self._storage, self._nbytes = storage, nbytes

    def __buffer__(self, _flags: int) -> memoryview:
        return memoryview(self._storage)[: self._nbytes]

    def __del__(self) -> None:
        if not sys.is_finalizing():
            _keep(self._storage)


def _storage_for(nbytes: int) -> mmap.mmap:
    """The smallest that is kept and large enough, but not twice as large as it has to be, or new memory."""
    for storage in sorted(_kept, key=len):
        if nbytes <= len(storage) < 2 * nbytes:
            with contextlib.suppress(ValueError):  # another thread was faster
                _kept.remove(storage)
                return storage
    storage = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            storage.madvise(mmap.MADV_HUGEPAGE)
    return storage


def _keep(storage: mmap.mmap) -> None:
    """Keeps memory for the next array, and lets go of the oldest that is too much."""
    if len(storage) > KEPT_BYTES:
        return
    with contextlib.suppress(OSError):  # it then stays until it is let go of
        storage.madvise(mmap.MADV_FREE)
    _kept.append(storage)
    while sum(map(len, list(_kept))) > KEPT_BYTES:
        _kept.pop(0)
