"""Plans safetensors files as published: which tensors go where, what the headers say.

All sizes are known from the config alone, so a plan can be shown before a byte is written.
`safetensors_pieces` brings the tensors to their places.
"""

import json
from collections.abc import Mapping

import numpy as np

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.config import GptOssConfig
from gptoss_weights.formats.folder import INDEX_NAME
from gptoss_weights.formats.layouts import Layout, index_text
from gptoss_weights.formats.raw_tensors import BFLOAT16, RawTensor
from gptoss_weights.formats.safetensors_files import DTYPES, LENGTH_BYTES
from gptoss_weights.formats.safetensors_pieces import HeadedFile, tensor_pieces
from gptoss_weights.output.pieces import Output, whole_files

__all__ = ["plan_file_sizes", "plan_shards", "safetensors_output"]

_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_HEADER_ALIGNMENT = 8  # huggingface/safetensors pads the header with spaces


def plan_shards(
    config: GptOssConfig, layout: Layout, *, dtype: np.dtype = BFLOAT16, max_shard_bytes: int | None = None
) -> dict[str, list[RawTensor]]:
    """File name → its tensors in file order; a file is full when the next tensor would exceed the limit.

    Args:
        config: The geometry.
        layout: The layout to write.
        dtype: Of the plain arrays.
        max_shard_bytes: Most tensor bytes in a file, unless a single tensor is larger; by default
            what the published repositories have.

    Raises:
        ValueError: the limit is not positive.
    """
    tensors = layout.tensors_in(config, dtype)
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


def plan_file_sizes(
    config: GptOssConfig, layout: Layout, *, dtype: np.dtype = BFLOAT16, max_shard_bytes: int | None = None
) -> dict[str, int]:
    """Weight file → its size in bytes, without writing it."""
    return _sizes(plan_shards(config, layout, dtype=dtype, max_shard_bytes=max_shard_bytes))


def safetensors_output(
    checkpoint: Checkpoint, layout: Layout, *, dtype: np.dtype = BFLOAT16, max_shard_bytes: int | None = None
) -> Output:
    """Config, weights and index of a layout, in pieces.

    Args:
        checkpoint: What to write.
        layout: The layout to write; a piece raises ValueError if a tensor is not as it stores it.
        dtype: Of the plain arrays.
        max_shard_bytes: As in `plan_shards`.

    Raises:
        ValueError: the limit is not positive, or the layout does not know this dtype.
    """
    config = checkpoint.config
    shards = plan_shards(config, layout, dtype=dtype, max_shard_bytes=max_shard_bytes)
    texts = layout.small_files(config, dtype)
    if layout.has_index(len(shards)):
        texts[INDEX_NAME] = index_text(shards, layout.tensors_in(config, dtype))
    contents = {name: text.encode() for name, text in texts.items()}
    return Output(
        sizes={name: len(content) for name, content in contents.items()} | _sizes(shards),
        pieces=lambda: [*whole_files(contents), *tensor_pieces(checkpoint, _headed(shards))],
    )


def _headed(shards: Mapping[str, list[RawTensor]]) -> dict[str, HeadedFile]:
    return {name: HeadedFile(_header(tensors), tensors) for name, tensors in shards.items()}


def _sizes(shards: Mapping[str, list[RawTensor]]) -> dict[str, int]:
    return {name: file.nbytes for name, file in _headed(shards).items()}


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
