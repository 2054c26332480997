"""A lock between processes: a file that one of them holds at a time, and removes when it lets go."""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["file_lock"]

_ATTEMPTS = 200  # to make the file; others may remove its folder just then, but not that often
_PAUSE_S = 0.005


@contextlib.contextmanager
def file_lock(path: Path, *, on_wait: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Holds a lock while the block runs; waits for it as long as another process, or thread, has it.

    The kernel lets go of it when its holder dies, so a leftover lock file blocks nobody.

    Args:
        path: The lock file; made, with its folder, and removed afterwards.
        on_wait: Called once if somebody else holds the lock.

    Raises:
        OSError: the file cannot be made.
    """
    descriptor = _acquire(path, on_wait)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: whoever waits sees that the file is gone, and makes another
        os.close(descriptor)


def _acquire(path: Path, on_wait: Callable[[], object]) -> int:
    told, attempts = False, 0
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # the last holder has just removed the folder, or no file can be there at all
            attempts += 1
            if attempts == _ATTEMPTS:
                raise
            time.sleep(_PAUSE_S)
            continue
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    on_wait()
                    told = True
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_still_there(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_still_there(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
