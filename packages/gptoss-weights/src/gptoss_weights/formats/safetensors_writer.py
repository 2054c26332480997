"""Writes safetensors files as published: which tensors go where, what the headers say, the bytes.

All sizes are known from the config alone, so a plan can be shown before a byte is written. Tensors
stream from the checkpoint one by one: what is held in memory is the largest of them.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.config import GptOssConfig
from gptoss_weights.formats.folder import INDEX_NAME
from gptoss_weights.formats.layouts import Layout, index_text
from gptoss_weights.formats.raw_tensors import Part, RawTensor
from gptoss_weights.formats.safetensors_files import DTYPES, LENGTH_BYTES
from gptoss_weights.mxfp4 import Mxfp4Tensor

__all__ = ["plan_file_sizes", "plan_shards", "write_safetensors_folder"]

_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_HEADER_ALIGNMENT = 8  # huggingface/safetensors pads the header with spaces


def plan_shards(
    config: GptOssConfig, layout: Layout, *, max_shard_bytes: int | None = None
) -> dict[str, list[RawTensor]]:
    """File name → its tensors in file order; a file is full when the next tensor would exceed the limit.

    Args:
        config: The geometry.
        layout: The layout to write.
        max_shard_bytes: Most tensor bytes in a file, unless a single tensor is larger; by default
            what the published repositories have.

    Raises:
        ValueError: the limit is not positive.
    """
    tensors = layout.tensors(config)
    limit = max_shard_bytes
    if limit is None:
        limit = layout.default_shard_bytes(sum(tensor.nbytes for tensor in tensors))
    if limit < 1:
        raise ValueError(f"max_shard_bytes must be positive, not {limit}")
    shards: list[list[RawTensor]] = [[]]
    size = 0
    for tensor in tensors:
        if shards[-1] and size + tensor.nbytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += tensor.nbytes
    names = layout.shard_names(len(shards))
    return {name: sorted(shard, key=_canonical_order) for name, shard in zip(names, shards, strict=True)}


def plan_file_sizes(config: GptOssConfig, layout: Layout, *, max_shard_bytes: int | None = None) -> dict[str, int]:
    """Weight file → its size in bytes, without writing it."""
    shards = plan_shards(config, layout, max_shard_bytes=max_shard_bytes)
    return {name: len(_header(tensors)) + sum(tensor.nbytes for tensor in tensors) for name, tensors in shards.items()}


def write_safetensors_folder(
    checkpoint: Checkpoint, layout: Layout, folder: Path, *, max_shard_bytes: int | None = None
) -> None:
    """Writes config, weights and index into an existing folder, each file synced to disk.

    Raises:
        ValueError: a tensor is not as the layout stores it (experts not packed, another dtype).
    """
    shards = plan_shards(checkpoint.config, layout, max_shard_bytes=max_shard_bytes)
    texts = layout.small_files(checkpoint.config)
    if layout.has_index(len(shards)):
        texts[INDEX_NAME] = index_text(shards, layout.tensors(checkpoint.config))
    for name, text in texts.items():
        _write(folder / name, iter([text.encode()]))
    for name, tensors in shards.items():
        _write(folder / name, _file_bytes(checkpoint, tensors))


def _canonical_order(tensor: RawTensor) -> tuple[int, str]:
    """Order inside a file: larger elements first, then by name (huggingface/safetensors, `prepare`)."""
    return -tensor.dtype.itemsize, tensor.name


def _header(tensors: list[RawTensor]) -> bytes:
    entries = {}
    position = 0
    for tensor in tensors:
        entries[tensor.name] = {
            "dtype": _DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, position + tensor.nbytes],
        }
        position += tensor.nbytes
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _HEADER_ALIGNMENT)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def _file_bytes(checkpoint: Checkpoint, tensors: list[RawTensor]) -> Iterator[bytes | memoryview]:
    yield _header(tensors)
    name, tensor = None, None
    for raw in tensors:
        for part in raw.parts:
            if part.spec.name != name:  # blocks and scales of a pair follow each other: read it once
                name, tensor = part.spec.name, None  # let go of one before the next is read
                tensor = checkpoint.read(part.spec.name)
            assert tensor is not None
            yield _part_bytes(part, tensor, raw)


def _part_bytes(part: Part, tensor: np.ndarray | Mxfp4Tensor, raw: RawTensor) -> memoryview:
    if isinstance(tensor, Mxfp4Tensor):
        halves = {"blocks": tensor.blocks, "scales": tensor.scales}
        if part.half not in halves:
            raise ValueError(f"{part.spec.name} is packed as MXFP4, but {raw.name} is stored as {raw.dtype}")
        array = halves[part.half]
    elif part.half != "array":
        raise ValueError(f"{part.spec.name} is not packed as MXFP4, but {raw.name} is stored so; encode it first")
    else:
        array = tensor
    if array.shape != part.shape or array.dtype != raw.dtype:
        raise ValueError(
            f"{part.spec.name} is {array.dtype} {array.shape}, but {raw.name} takes {raw.dtype} {part.shape}"
        )
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _write(path: Path, chunks: Iterator[bytes | memoryview]) -> None:
    with path.open("xb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
