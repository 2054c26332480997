"""Memory that nobody uses any more, back to the system."""

import ctypes

__all__ = ["give_memory_back"]


def give_memory_back() -> None:
    """Returns what the heap of the C library holds free, where the library can: glibc does not by itself.

    After compiling that is hundreds of MiB, which a step's buffers, being large, would be put beside.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
