"""BLAKE3 of files and of canonical tensors, each byte hashed once wherever that can be.

A file is hashed in parts. Where a tensor stands in it as it is, that is a part, so that one checksum
serves both; what stands between them (a header, kernels that stand transposed) makes further parts.
Tensors that stand nowhere as they are (those kernels, chunked leaves, arrays of Orbax) are read row
by row, while the files are hashed on other threads.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from blake3 import blake3

from gptoss_weights.checkpoint import Checkpoint, StoredArray, StoredMxfp4
from gptoss_weights.file_hashing import FileRange, hash_ranges
from gptoss_weights.manifest.document import FileEntry
from gptoss_weights.mxfp4 import Mxfp4Tensor
from gptoss_weights.tiled_copy import in_c_order

__all__ = ["Checksums", "TensorHalf", "hash_artefact", "hash_tensor", "stored_halves"]

type Checksums = dict[str, str]
"""From "values", or "blocks" and "scales", to BLAKE3."""

type TensorHalf = tuple[str, str]
"""A canonical name, and what of the tensor is meant: "values", "blocks" or "scales"."""


def hash_artefact(
    checkpoint: Checkpoint,
    files: Mapping[str, Path],
    *,
    known: Mapping[TensorHalf, str] | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> tuple[dict[str, FileEntry], dict[str, Checksums]]:
    """Hashes files and all tensors.

    Args:
        checkpoint: What was opened from these files.
        files: Name → path.
        known: BLAKE3 of what was copied into these files, which is not read again.
        on_bytes: Called with the number of bytes of files that have been hashed since the last call,
            from other threads, but never from two at a time.

    Returns:
        Name of a file → its entry, and canonical name → checksums.
    """
    known = known or {}
    stored = {name: stored_halves(checkpoint, name) for name in checkpoint}
    parts = _parts(files, [array for halves in stored.values() for array in halves])
    every_part = [part for listed in parts.values() for part in listed]
    sums = {part: known[part.half] for part in every_part if part.half is not None and part.half in known}
    unknown = [part for part in every_part if part not in sums]
    is_abandoned = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        computing = pool.submit(_hash_computed, checkpoint, is_abandoned)
        try:
            sums |= zip(unknown, hash_ranges([part.bytes for part in unknown], on_bytes=on_bytes), strict=True)
        except BaseException:
            is_abandoned.set()
            raise
        checksums = computing.result()
    for part, checksum in sums.items():
        if part.half is not None:
            name, half = part.half
            checksums.setdefault(name, {})[half] = checksum
    entries = {
        file: FileEntry(nbytes=listed[-1].bytes.stop, parts={part.bytes.start: sums[part] for part in listed})
        for file, listed in parts.items()
    }
    return entries, {name: dict(sorted(checksums[name].items())) for name in checkpoint}


class _Stored(NamedTuple):
    """A tensor, or half of one, that stands in a file as it is."""

    half: TensorHalf
    array: StoredArray


class _Part(NamedTuple):
    """A range of a file, and what it holds, if that is a tensor or half of one."""

    bytes: FileRange
    half: TensorHalf | None = None


def stored_halves(checkpoint: Checkpoint, name: str) -> list[_Stored]:
    """What of a tensor stands in a file as it is; nothing if the tensor is computed."""
    match checkpoint.stored(name):
        case StoredMxfp4() as stored:
            return [_Stored((name, "blocks"), stored.blocks), _Stored((name, "scales"), stored.scales)]
        case StoredArray() as stored:
            return [_Stored((name, "values"), stored)]
        case None:
            return []


def _parts(files: Mapping[str, Path], stored: Iterable[_Stored]) -> dict[str, list[_Part]]:
    """Each file in parts: what stands there as it is, and what stands around that."""
    in_file: dict[Path, list[_Stored]] = {}
    for one in stored:
        in_file.setdefault(one.array.path.absolute(), []).append(one)
    return {name: list(_parts_of(path, in_file.get(path.absolute(), []))) for name, path in files.items()}


def _parts_of(path: Path, stored: list[_Stored]) -> Iterator[_Part]:
    position, size = 0, path.stat().st_size
    for half, array in sorted(stored, key=lambda one: one.array.offset):
        if array.offset > position:
            yield _Part(FileRange(path, position, array.offset))
        position = array.offset + array.nbytes
        yield _Part(FileRange(path, array.offset, position), half)
    if position < size or size == 0:
        yield _Part(FileRange(path, position, size))


def _hash_computed(checkpoint: Checkpoint, is_abandoned: threading.Event) -> dict[str, Checksums]:
    """Checksums of the tensors that stand nowhere as they are."""
    checksums = {}
    for name in checkpoint:
        if checkpoint.stored(name) is None and not is_abandoned.is_set():
            checksums[name] = hash_tensor(checkpoint, name)
    return checksums


def hash_tensor(checkpoint: Checkpoint, name: str) -> Checksums:
    """Checksums of a tensor, read row by row: the same in every layout that stores the same values."""
    hashes: dict[str, blake3] = {}
    for _, tensor in checkpoint.pieces(name):
        if isinstance(tensor, Mxfp4Tensor):
            halves = {"blocks": tensor.blocks, "scales": tensor.scales}
        else:
            halves = {"values": tensor}
        for half, array in halves.items():
            data = in_c_order(array).reshape(-1).view(np.uint8).data
            hashes.setdefault(half, blake3()).update(data)
    return {half: hashed.hexdigest() for half, hashed in hashes.items()}
