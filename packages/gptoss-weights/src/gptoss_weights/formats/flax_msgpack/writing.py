"""Writes a bundle as a stream: structure from the plan, payloads in slices from the checkpoint.

Memory holds one slice: some rows of a leaf, at least one decoded expert (33 MB in bfloat16 at
gpt-oss-20b's size), or, of a kernel, which stands transposed, a stripe of its rows. A stripe is
gathered in a pass over the rows of the parameter; the unembedding, 1.2 GB, takes nine.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import ml_dtypes
import numpy as np

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.config import GptOssConfig
from gptoss_weights.formats.flax_msgpack.encoding import Form, Payload, encode_tree
from gptoss_weights.formats.flax_msgpack.transposing import transpose_into
from gptoss_weights.formats.flax_msgpack.tree import FlaxLeaf, TreePath, flax_config_path, flax_leaves
from gptoss_weights.mxfp4 import Mxfp4Tensor

__all__ = ["FlaxDtype", "flax_bytes", "plan_flax_file_sizes", "write_flax"]

type FlaxDtype = Literal["bfloat16", "float32"]

_DTYPES = {"bfloat16": np.dtype(ml_dtypes.bfloat16), "float32": np.dtype(np.float32)}
_SLICE_BYTES = 16 << 20  # of a parameter's rows that are read at a time
_STRIPE_BYTES = 128 << 20  # of a kernel's rows that are gathered at a time


def plan_flax_file_sizes(config: GptOssConfig, target: Path, *, dtype: FlaxDtype = "bfloat16") -> dict[str, int]:
    """File name → size in bytes of the bundle at `target`, without writing it.

    Raises:
        ValueError: no such dtype.
    """
    pieces = encode_tree(_forms(config, dtype))
    return {
        target.name: sum(piece.nbytes if isinstance(piece, Payload) else len(piece) for piece in pieces),
        flax_config_path(target).name: len(_config_text(config).encode()),
    }


def write_flax(checkpoint: Checkpoint, target: Path, *, dtype: FlaxDtype = "bfloat16") -> None:
    """Writes `<stem>.msgpack` and `<stem>.config.json`, both new, each synced to disk.

    Args:
        checkpoint: What to write; packed experts are decoded.
        target: The `.msgpack` file.
        dtype: Of every leaf.

    Raises:
        FileExistsError: one of the two is there already.
        ValueError: no such dtype.
    """
    chunks = flax_bytes(checkpoint, dtype=dtype)
    _write(flax_config_path(target), iter([_config_text(checkpoint.config).encode()]))
    _write(target, chunks)


def flax_bytes(checkpoint: Checkpoint, *, dtype: FlaxDtype = "bfloat16") -> Iterator[bytes | memoryview]:
    """The `.msgpack` file from its first byte to its last, in chunks of at most some hundred MB.

    Raises:
        ValueError: no such dtype.
    """
    return _filled(checkpoint, _forms(checkpoint.config, dtype))


def _forms(config: GptOssConfig, dtype: FlaxDtype) -> dict[TreePath, Form]:
    if dtype not in _DTYPES:
        raise ValueError(f"a Flax bundle is written in {' or '.join(_DTYPES)}, not {dtype!r}")
    return {path: Form(leaf.shape, _DTYPES[dtype]) for path, leaf in flax_leaves(config).items()}


def _config_text(config: GptOssConfig) -> str:
    return json.dumps(config.to_openai(), indent=2) + "\n"


def _filled(checkpoint: Checkpoint, forms: dict[TreePath, Form]) -> Iterator[bytes | memoryview]:
    """The plan with its gaps filled."""
    leaves = flax_leaves(checkpoint.config)
    path, payload = None, _Stream(iter(()))
    for piece in encode_tree(forms):
        if not isinstance(piece, Payload):
            yield piece
            continue
        if piece.path != path:  # otherwise the next chunk of the same leaf
            path = piece.path
            payload = _Stream(_leaf_bytes(checkpoint, leaves[path], forms[path].dtype))
        yield from payload.take(piece.nbytes)


class _Stream:
    """Bytes that are taken in other portions than they come in."""

    def __init__(self, portions: Iterator[memoryview]) -> None:
        self._portions = portions
        self._rest = memoryview(b"")

    def take(self, nbytes: int) -> Iterator[memoryview]:
        while nbytes:
            if not self._rest:
                self._rest = next(self._portions)
            portion, self._rest = self._rest[:nbytes], self._rest[nbytes:]
            nbytes -= len(portion)
            yield portion


def _leaf_bytes(checkpoint: Checkpoint, leaf: FlaxLeaf, dtype: np.dtype) -> Iterator[memoryview]:
    arrays = _stripes(checkpoint, leaf, dtype) if leaf.is_kernel else _rows(checkpoint, leaf, dtype)
    return (np.ascontiguousarray(array).reshape(-1).view(np.uint8).data for array in arrays)


def _rows(checkpoint: Checkpoint, leaf: FlaxLeaf, dtype: np.dtype) -> Iterator[np.ndarray]:
    for spec in leaf.specs:
        row_bytes = spec.size // spec.shape[0] * dtype.itemsize
        for rows in _slices(spec.shape[0], _SLICE_BYTES // row_bytes):
            tensor = checkpoint.read(spec.name, (rows,))
            yield tensor.decode(dtype) if isinstance(tensor, Mxfp4Tensor) else tensor.astype(dtype, copy=False)


def _stripes(checkpoint: Checkpoint, leaf: FlaxLeaf, dtype: np.dtype) -> Iterator[np.ndarray]:
    inputs, outputs = leaf.shape
    for stripe_rows in _slices(inputs, _STRIPE_BYTES // (outputs * dtype.itemsize)):
        stripe = np.empty((stripe_rows.stop - stripe_rows.start, outputs), dtype)
        start = 0
        for spec in leaf.specs:
            for rows in _slices(spec.shape[0], _SLICE_BYTES // (inputs * dtype.itemsize)):
                matrix = checkpoint.read_array(spec.name, (rows, stripe_rows))
                transpose_into(stripe[:, start + rows.start : start + rows.stop], matrix)
            start += spec.shape[0]
        yield stripe


def _slices(extent: int, length: int) -> Iterator[slice]:
    length = max(1, length)
    for start in range(0, extent, length):
        yield slice(start, min(start + length, extent))


def _write(path: Path, chunks: Iterator[bytes | memoryview]) -> None:
    with path.open("xb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
