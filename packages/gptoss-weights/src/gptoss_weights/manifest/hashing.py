"""SHA-256 of files and of canonical tensors, on two threads, with some megabytes of memory.

Where tensors stand in their files as they are, one pass over a file gives both: each piece goes into
the file's hash on one thread and into the tensors' on another. Where they are computed (kernels that
stand transposed, chunked leaves, arrays of Orbax), files are hashed on one thread while the other
reads the tensors row by row. `hashlib` works outside the interpreter's lock.
"""

import bisect
import hashlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gptoss_weights.checkpoint import Checkpoint, StoredArray, StoredMxfp4
from gptoss_weights.manifest.document import FileEntry
from gptoss_weights.mxfp4 import Mxfp4Tensor

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["hash_artefact", "hash_file", "hash_tensor"]

type Checksums = dict[str, str]  # "values", or "blocks" and "scales" → SHA-256

_FILE_PIECE_BYTES = 4 << 20


def hash_artefact(
    checkpoint: Checkpoint, files: Mapping[str, Path], *, on_bytes: Callable[[int], None] | None = None
) -> tuple[dict[str, FileEntry], dict[str, Checksums]]:
    """Hashes files and all tensors.

    Args:
        checkpoint: What was opened from these files.
        files: Name → path.
        on_bytes: Called with the number of bytes of files that have been hashed since the last call,
            maybe from another thread.

    Returns:
        Name of a file → its entry, and canonical name → checksums.
    """
    found, computed = _stored_parts(checkpoint)
    if computed:
        return _hash_apart(checkpoint, files, on_bytes)
    entries = {}
    with ThreadPoolExecutor(1) as pool:
        for name, path in files.items():
            parts = sorted(found.get(path.absolute(), []), key=lambda part: part.start)
            entries[name] = hash_file(path, parts=parts, pool=pool, on_bytes=on_bytes)
    checksums: dict[str, Checksums] = {name: {} for name in checkpoint}
    hashed = {path.absolute() for path in files.values()}
    for path, parts in found.items():
        assert path in hashed, f"{path} holds tensors, but is not among the files"
        for part in parts:
            checksums[part.tensor][part.half] = part.sha256.hexdigest()
    return entries, checksums


def _hash_apart(
    checkpoint: Checkpoint, files: Mapping[str, Path], on_bytes: Callable[[int], None] | None
) -> tuple[dict[str, FileEntry], dict[str, Checksums]]:
    """Files on one thread, tensors on another."""
    is_abandoned = threading.Event()

    def count(nbytes: int) -> None:
        if is_abandoned.is_set():
            raise CancelledError
        if on_bytes is not None:
            on_bytes(nbytes)

    with ThreadPoolExecutor(1) as pool:
        entries = pool.submit(lambda: {name: hash_file(path, on_bytes=count) for name, path in files.items()})
        try:
            checksums = {name: hash_tensor(checkpoint, name) for name in checkpoint}
            return entries.result(), checksums
        finally:
            is_abandoned.set()


class _Part:
    """A tensor, or half of one, as a range of bytes of a file, and its hash so far."""

    def __init__(self, tensor: str, half: str, stored: StoredArray) -> None:
        self.tensor, self.half = tensor, half
        self.start, self.stop = stored.offset, stored.offset + stored.nbytes
        self.sha256 = hashlib.sha256()


def _stored_parts(checkpoint: Checkpoint) -> tuple[dict[Path, list[_Part]], list[str]]:
    """File → what stands in it as it is, and the names of the tensors that stand nowhere so."""
    parts: dict[Path, list[_Part]] = {}
    computed = []
    for name in checkpoint:
        stored = checkpoint.stored(name)
        if isinstance(stored, StoredMxfp4):
            parts.setdefault(stored.blocks.path.absolute(), []).append(_Part(name, "blocks", stored.blocks))
            parts.setdefault(stored.scales.path.absolute(), []).append(_Part(name, "scales", stored.scales))
        elif isinstance(stored, StoredArray):
            parts.setdefault(stored.path.absolute(), []).append(_Part(name, "values", stored))
        else:
            computed.append(name)
    return parts, computed


def hash_file(
    path: Path,
    *,
    parts: list[_Part] | None = None,
    pool: ThreadPoolExecutor | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> FileEntry:
    """Hashes a file, and on the way the parts of it, which come in the order in which they stand."""
    sha256: _Hash = hashlib.sha256()
    buffer = memoryview(bytearray(_FILE_PIECE_BYTES))
    position = 0
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            piece = buffer[:count]
            if parts and pool is not None:
                whole = pool.submit(sha256.update, piece)
                _update(parts, position, piece)
                whole.result()
            else:
                sha256.update(piece)
            position += count
            if on_bytes is not None:
                on_bytes(count)
    return FileEntry(nbytes=position, sha256=sha256.hexdigest())


def _update(parts: list[_Part], position: int, piece: memoryview) -> None:
    end = position + len(piece)
    first = bisect.bisect_right(parts, position, key=lambda part: part.stop)
    for part in parts[first:]:
        if part.start >= end:
            break
        part.sha256.update(piece[max(part.start - position, 0) : part.stop - position])


def hash_tensor(checkpoint: Checkpoint, name: str) -> Checksums:
    """Checksums of a tensor, read row by row: the same in every layout that stores the same values."""
    hashes: dict[str, _Hash] = {}
    for _, tensor in checkpoint.pieces(name):
        if isinstance(tensor, Mxfp4Tensor):
            halves = {"blocks": tensor.blocks, "scales": tensor.scales}
        else:
            halves = {"values": tensor}
        for half, array in halves.items():
            data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            hashes.setdefault(half, hashlib.sha256()).update(data)
    return {half: sha256.hexdigest() for half, sha256 in hashes.items()}
