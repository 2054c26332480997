"""Memory of the process: what Python goes through for garbage, and what the C library gives back or keeps."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["give_memory_back", "keep_memory", "uncollected"]

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc malloc/malloc.h
NEVER = -1


def give_memory_back() -> None:
    """Returns what the heap of the C library holds free, where the library can: glibc does not by itself.

    After compiling that is hundreds of MiB, which a step's buffers, being large, would be put beside.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def keep_memory() -> None:
    """Lets this thread have large blocks that were freed again, for the rest of the process; glibc only.

    By itself glibc asks the system for each block of more than 32 MB, and gives it back at once. A step's buffers on a
    CPU are one such block, whose pages the system must then clear for every step: an eighth of its time. Other threads
    have heaps that cannot grow so far, so it takes `start_jax`, which lets steps run in the thread that asks for them.
    `give_memory_back` still does what it says.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, NEVER)


@contextmanager
def uncollected() -> Iterator[None]:
    """Collects no garbage in the meantime, where what is made stays and would be gone through again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
