"""Brings tensors to their places in safetensors files, piece by piece.

What is stored elsewhere byte for byte as it has to be is copied, file to file. Anything else is read
(decoded, encoded, made, transposed) some rows at a time: memory holds one piece, 32 MiB or an expert.
An expert matrix that is packed on the way is encoded once, and both halves go to their places.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from gptoss_weights.checkpoint import Checkpoint, StoredArray, StoredMxfp4
from gptoss_weights.formats.raw_tensors import Half, Part, RawTensor
from gptoss_weights.mxfp4 import Mxfp4Tensor
from gptoss_weights.output.files import OutputFiles
from gptoss_weights.output.pieces import Checksum, Piece
from gptoss_weights.tiled_copy import copy_by_tiles

__all__ = ["HeadedFile", "tensor_pieces"]

PIECE_BYTES = 32 << 20  # of what is read and computed at a time; an expert of gpt-oss-20b in bfloat16


@dataclasses.dataclass(frozen=True)
class HeadedFile:
    """A file of a header and raw tensors in the order in which they follow it."""

    header: bytes
    tensors: list[RawTensor]

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return len(self.header) + sum(tensor.nbytes for tensor in self.tensors)


class _Place(NamedTuple):
    """Where a part begins, and the raw tensor that it is of."""

    file: str
    offset: int
    raw: RawTensor
    part: Part


def tensor_pieces(checkpoint: Checkpoint, files: Mapping[str, HeadedFile]) -> Iterator[Piece]:
    """The pieces of files: of each its header, then its tensors in the order in which they stand."""
    places = _places(files)
    for name, file in files.items():
        yield Piece(f"{name} header", len(file.header), functools.partial(_write_header, name, file))
        for raw in file.tensors:
            for part in raw.parts:
                yield from _part_pieces(checkpoint, places, part)


def _places(files: Mapping[str, HeadedFile]) -> dict[tuple[str, Half], _Place]:
    places = {}
    for name, file in files.items():
        offset = len(file.header)
        for raw in file.tensors:
            for part in raw.parts:
                places[part.spec.name, part.half] = _Place(name, offset, raw, part)
                offset += part.size * raw.dtype.itemsize
    return places


def _write_header(name: str, file: HeadedFile, files: OutputFiles) -> None:
    files.set_size(name, file.nbytes)
    files.write(name, 0, file.header)


def _part_pieces(checkpoint: Checkpoint, places: Mapping[tuple[str, Half], _Place], part: Part) -> Iterator[Piece]:
    name, half = part.spec.name, part.half
    place = places[name, half]
    stored = None if part.is_transposed else _stored_half(checkpoint, name, half)
    if stored is not None:
        _check(place, part.shape, stored)
        copy = functools.partial(_copy, place, stored)
        yield Piece(f"{name} {half}", stored.nbytes, copy, copies=(name, "values" if half == "array" else half))
        return
    if half == "scales":
        return  # written with the blocks
    halves = [place] if half == "array" else [place, places[name, "scales"]]
    rows_total = part.shape[0]
    row_bytes = sum(one.part.size // rows_total * one.raw.dtype.itemsize for one in halves)
    step = max(1, PIECE_BYTES // row_bytes)
    for start in range(0, rows_total, step):
        rows = slice(start, min(start + step, rows_total))
        write = functools.partial(_write_rows, checkpoint, halves, rows)
        yield Piece(f"{name} {rows.start}:{rows.stop}", row_bytes * (rows.stop - rows.start), write)


def _stored_half(checkpoint: Checkpoint, name: str, half: Half) -> StoredArray | None:
    stored = checkpoint.stored(name)
    if isinstance(stored, StoredMxfp4):
        return {"blocks": stored.blocks, "scales": stored.scales}.get(half)
    return stored if half == "array" else None


def _copy(place: _Place, stored: StoredArray, files: OutputFiles) -> Checksum:
    return files.copy(place.file, place.offset, stored)


def _write_rows(checkpoint: Checkpoint, halves: list[_Place], rows: slice, files: OutputFiles) -> None:
    spec = halves[0].part.spec
    is_whole = rows == slice(0, spec.shape[0])
    tensor = checkpoint.read(spec.name, () if is_whole else (rows,))
    for place in halves:
        array = _half_of(tensor, place)
        canonical = dataclasses.replace(place.part, is_transposed=False).shape
        _check(place, (rows.stop - rows.start, *canonical[1:]), array)
        row_bytes = array.nbytes // len(array)
        files.write(place.file, place.offset + rows.start * row_bytes, _as_placed(array, place.part))


def _half_of(tensor: np.ndarray | Mxfp4Tensor, place: _Place) -> np.ndarray:
    name, raw, half = place.part.spec.name, place.raw, place.part.half
    if isinstance(tensor, Mxfp4Tensor):
        if half == "array":
            raise ValueError(f"{name} is packed as MXFP4, but {raw.name} is stored as {raw.dtype}")
        return tensor.blocks if half == "blocks" else tensor.scales
    if half != "array":
        raise ValueError(f"{name} is not packed as MXFP4, but {raw.name} is stored so; wrap it in quantized() first")
    return tensor


def _check(place: _Place, shape: tuple[int, ...], found: np.ndarray | StoredArray) -> None:
    if found.shape != shape or found.dtype != place.raw.dtype:
        name, raw = place.part.spec.name, place.raw
        raise ValueError(f"{name} is {found.dtype} {found.shape}, but {raw.name} takes {raw.dtype} {shape}")


def _as_placed(array: np.ndarray, part: Part) -> np.ndarray:
    if not part.is_transposed:
        return array
    turned = np.empty((len(array), array.shape[2], array.shape[1]), array.dtype)
    for target, source in zip(turned, array, strict=True):
        copy_by_tiles(target, source.T)
    return turned
