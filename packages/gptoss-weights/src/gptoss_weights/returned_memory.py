"""Large blocks that a C library frees go back to the system at once, instead of staying with their thread.

glibc gives a block its own pages from 128 KiB on, but raises that bound to the size of whatever such a
block it sees freed, up to 32 MiB; what is smaller stays in the heap of its thread. TensorStore frees
chunks of 17 and 24 MB in a dozen threads, so that a process kept 200 to 500 MB of nothing, another
amount in each run. With a bound that is given, glibc leaves it alone.
"""

import contextlib
import ctypes
import functools

__all__ = ["return_large_blocks"]

_M_MMAP_THRESHOLD = -3  # glibc malloc.h
_SMALLEST_BYTES = 4 << 20


@functools.cache
def return_large_blocks() -> None:
    """From now on, in this process; does nothing where the C library has no such setting."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # no glibc; no C library to open by its name
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _SMALLEST_BYTES)
