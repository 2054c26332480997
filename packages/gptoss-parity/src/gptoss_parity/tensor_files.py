"""Safetensors files whose bytes depend on nothing but what is in them, and which cost no memory to open.

The safetensors library writes its metadata in another order each time; here header and tensors
keep the order they are given in, so that equal contents are equal files. Reading maps the file; bfloat16
becomes float32 as it is read, which is exact.
"""

import json
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from gptoss_weights import CheckpointError
from gptoss_weights.durable_files import replaced_file
from safetensors import SafetensorError, safe_open

__all__ = ["read_tensors", "write_tensors"]

_HEADER_ALIGNMENT = 8  # bytes, as the safetensors library pads its headers
_LENGTH_BYTES = 8  # little-endian length of the header
_LOOKED_AT_BYTES = 64
# First bytes, lower-cased and without leading space → what the file is instead.
_IMPOSTORS: Mapping[bytes, str] = {
    b"version https://git-lfs": "a Git-LFS pointer",
    b"<!doctype html": "an HTML page",
    b"<html": "an HTML page",
}
_DTYPES: Mapping[str, np.dtype] = {
    "F32": np.dtype("<f4"), "F64": np.dtype("<f8"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2"),
    "I16": np.dtype("<i2"), "I32": np.dtype("<i4"), "I64": np.dtype("<i8"), "U8": np.dtype("u1"),
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items() if name != "BF16"} | {np.dtype(ml_dtypes.bfloat16): "BF16"}


def write_tensors(path: Path, metadata: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a safetensors file; `path` appears whole or not at all."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    offset = 0
    for name, array in tensors.items():
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % _HEADER_ALIGNMENT)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as stream:
        stream.write(len(encoded).to_bytes(_LENGTH_BYTES, "little"))
        stream.write(encoded)
        for array in tensors.values():
            stream.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Metadata, and the tensors by name, read-only and memory-mapped.

    Raises:
        CheckpointError: not a safetensors file, or a tensor has a dtype that no trace holds.
    """
    header = _read_header(path)
    metadata: dict[str, str] = header.pop("__metadata__", {})
    return metadata, _map_arrays(path, header)


def _read_header(path: Path) -> dict[str, Any]:
    """The header as JSON, after the safetensors library found it sound: bounds, overlaps, gaps."""
    if not path.is_file():
        raise CheckpointError("there is no such trace file", where=path)
    _refuse_impostors(path)
    try:
        with safe_open(path, framework="numpy") as checked:
            checked.keys()
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"not a readable safetensors file ({error})", where=path) from None
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        header: dict[str, Any] = json.loads(stream.read(length))
    return header


def _refuse_impostors(path: Path) -> None:
    """Says in words what a download often leaves in a trace's place."""
    with path.open("rb") as stream:
        start = stream.read(_LOOKED_AT_BYTES).lstrip().lower()
    for prefix, what in _IMPOSTORS.items():
        if start.startswith(prefix):
            raise CheckpointError(f"the file is {what}, not a trace", where=path, fix="Download it again.")


def _map_arrays(path: Path, header: Mapping[str, Any]) -> dict[str, np.ndarray]:
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    unknown = {name: entry["dtype"] for name, entry in header.items() if entry["dtype"] not in _DTYPES}
    if unknown:
        name, dtype = next(iter(unknown.items()))
        raise CheckpointError("a tensor of this dtype is no probe", where=f"{path}: {name}", found=dtype)
    arrays = {}
    for name, entry in header.items():
        begin, end = (length + _LENGTH_BYTES + at for at in entry["data_offsets"])
        array = np.frombuffer(memoryview(mapped)[begin:end], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
        if entry["dtype"] == "BF16":
            array = (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
        arrays[name] = array
    return arrays
