"""The header of a safetensors file, read strictly: every byte of the file must be accounted for.

A file is eight bytes of header length (little endian), a JSON object, and the data. The reader of
the safetensors package gives no byte offsets and lets the last of two equal keys win, hence this
one. It reads the header only, so a 10 GB shard opens as fast as a small one.

Source: huggingface/safetensors, README, "Format".
"""

import math
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from gptoss_weights.checkpoint import StoredArray
from gptoss_weights.errors import CheckpointError
from gptoss_weights.formats.impostors import LOOKED_AT_BYTES, refuse_impostors
from gptoss_weights.json_files import parse_json_object
from gptoss_weights.wording import shown, shown_name

__all__ = ["DTYPES", "MAX_HEADER_BYTES", "read_header"]

MAX_HEADER_BYTES = 100_000_000  # huggingface/safetensors, MAX_HEADER_SIZE
LENGTH_BYTES = 8
_LARGEST_SIZE = 2**63 - 1
_LARGEST_RANK = 32

DTYPES: Mapping[str, np.dtype] = {
    "BOOL": np.dtype(np.bool),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "F32": np.dtype("<f4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
}


def read_header(path: Path) -> dict[str, StoredArray]:
    """Where every tensor of a safetensors file stands, in the order of the data.

    Raises:
        CheckpointError: the file is something else, damaged, truncated, or disagrees with itself.
    """
    if not path.is_file():
        raise CheckpointError("there is no such file", where=path)
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(LOOKED_AT_BYTES)
        refuse_impostors(path, start, wanted="safetensors files")
        if size < LENGTH_BYTES:
            raise CheckpointError("the file is too short for safetensors", where=path, found=f"{size} bytes")
        length = int.from_bytes(start[:LENGTH_BYTES], "little")
        if length > MAX_HEADER_BYTES:
            raise CheckpointError(
                "this is no safetensors file: its header would be too large",
                where=path,
                expected=f"at most {MAX_HEADER_BYTES} bytes",
                found=length,
            )
        if length > size - LENGTH_BYTES:
            raise CheckpointError(
                "the file is truncated within its header",
                where=path,
                expected=f"{length} bytes of header",
                found=f"{size - LENGTH_BYTES} bytes",
                fix="Download it again.",
            )
        file.seek(LENGTH_BYTES)
        header = parse_json_object(file.read(length), what="the header", where=path)
    data_start = LENGTH_BYTES + length
    _check_metadata(path, header.get("__metadata__", {}))
    arrays = [_array(path, name, entry, data_start) for name, entry in header.items() if name != "__metadata__"]
    arrays.sort(key=lambda item: (item[1].offset, item[1].nbytes))
    _check_coverage(path, arrays, data_start, size)
    return dict(arrays)


def _check_metadata(path: Path, metadata: object) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise CheckpointError("the header's __metadata__ is no object of texts", where=path, found=shown(metadata))


def _array(path: Path, name: str, entry: object, data_start: int) -> tuple[str, StoredArray]:
    where = f"{path}: {shown_name(name)}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError("the header entry is not {dtype, shape, data_offsets}", where=where)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise CheckpointError("unknown dtype", where=where, expected=f"one of {', '.join(DTYPES)}", found=shown(dtype))
    if not _are_sizes(shape):
        raise CheckpointError("the shape is not a list of sizes ≥ 0", where=where, found=shown(shape))
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(
            "data_offsets are not [begin, end] with 0 ≤ begin ≤ end", where=where, found=shown(offsets)
        )
    if len(shape) > _LARGEST_RANK:
        raise CheckpointError(f"the shape has more than {_LARGEST_RANK} axes", where=where, found=len(shape))
    if max(*shape, *offsets) > _LARGEST_SIZE:
        raise CheckpointError("the size overflows 63 bits", where=where, found=f"{shown(shape)} of {dtype}")
    nbytes = math.prod(shape) * DTYPES[dtype].itemsize
    if nbytes > _LARGEST_SIZE:
        raise CheckpointError("the size overflows 63 bits", where=where, found=f"{shown(shape)} of {dtype}")
    if offsets[1] - offsets[0] != nbytes:
        raise CheckpointError(
            "shape and dtype do not fit the bytes reserved",
            where=where,
            expected=f"{nbytes} bytes for {shown(shape)} of {dtype}",
            found=f"{offsets[1] - offsets[0]} bytes",
        )
    stored = StoredArray(path=path, offset=data_start + offsets[0], dtype=DTYPES[dtype], shape=tuple(shape))
    return name, stored


def _are_sizes(values: object) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _check_coverage(path: Path, arrays: list[tuple[str, StoredArray]], data_start: int, size: int) -> None:
    """The tensors must lie one after the other from the header to the last byte."""
    position = data_start
    for name, array in arrays:
        if array.offset != position:
            overlaps = array.offset < position
            raise CheckpointError(
                "the tensor overlaps the one before it" if overlaps else "there is a hole before the tensor",
                where=f"{path}: {shown_name(name)}",
                expected=f"begin {position - data_start}",
                found=f"begin {array.offset - data_start}",
            )
        position += array.nbytes
    if position > size:
        last = shown_name(arrays[-1][0])
        raise CheckpointError(
            f"the file is truncated: it ends before the end of {last}",
            where=path,
            expected=f"{position} bytes",
            found=f"{size} bytes",
            fix="Download it again.",
        )
    if position < size:
        raise CheckpointError(
            "bytes follow the last tensor", where=path, expected=f"{position} bytes", found=f"{size} bytes"
        )
