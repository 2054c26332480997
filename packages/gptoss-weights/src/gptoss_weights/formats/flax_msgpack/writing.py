"""Writes a bundle as a stream: structure from the plan, payloads in slices from the checkpoint.

Memory holds one slice: some rows of a leaf, at least one decoded expert (33 MB in bfloat16 at
gpt-oss-20b's size), or, of a kernel, which stands transposed, a stripe of its rows. A stripe is
gathered in a pass over the rows of the parameter; the unembedding, 1.2 GB, takes nine.
"""

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, cast

import ml_dtypes
import numpy as np

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.config import GptOssConfig
from gptoss_weights.formats.flax_msgpack.encoding import Form, Payload, encode_tree
from gptoss_weights.formats.flax_msgpack.tree import FlaxLeaf, TreePath, flax_config_path, flax_leaves
from gptoss_weights.mxfp4 import Mxfp4Tensor
from gptoss_weights.output.files import OutputFiles
from gptoss_weights.output.pieces import Output, Piece, whole_files
from gptoss_weights.tiled_copy import copy_by_tiles, in_c_order

__all__ = ["FlaxDtype", "check_flax_dtype", "flax_bytes", "flax_output", "plan_flax_file_sizes", "write_flax"]

type FlaxDtype = Literal["bfloat16", "float32"]

_DTYPES = {"bfloat16": np.dtype(ml_dtypes.bfloat16), "float32": np.dtype(np.float32)}
_SLICE_BYTES = 16 << 20  # of a parameter's rows that are read at a time
_STRIPE_BYTES = 128 << 20  # of a kernel's rows that are gathered at a time


def plan_flax_file_sizes(config: GptOssConfig, target: Path, *, dtype: FlaxDtype = "bfloat16") -> dict[str, int]:
    """File name → size in bytes of the bundle at `target`, without writing it.

    Raises:
        ValueError: no such dtype.
    """
    return {
        target.name: sum(map(_size, encode_tree(_forms(config, dtype)))),
        flax_config_path(target).name: len(_config_text(config).encode()),
    }


def write_flax(checkpoint: Checkpoint, target: Path, *, dtype: FlaxDtype = "bfloat16") -> None:
    """Writes `<stem>.msgpack` and `<stem>.config.json`, both new.

    Args:
        checkpoint: What to write; packed experts are decoded, arrays are cast.
        target: The `.msgpack` file.
        dtype: Of every leaf; what is float32 in the checkpoint is rounded to bfloat16.

    Raises:
        FileExistsError: one of the two is there already.
        ValueError: no such dtype.
    """
    check_flax_dtype(dtype)
    for path in (target, flax_config_path(target)):
        path.touch(exist_ok=False)
    with OutputFiles(target.parent) as files:
        for piece in flax_output(checkpoint, target.name, dtype=_DTYPES[dtype]).pieces():
            piece.write(files)


def flax_output(checkpoint: Checkpoint, target_name: str, *, dtype: np.dtype) -> Output:
    """The bundle in pieces: its config, the structure of its tree, then leaf after leaf.

    Args:
        checkpoint: What to write; packed experts are decoded, arrays are cast.
        target_name: Name of the `.msgpack` file.
        dtype: Of every leaf, bfloat16 or float32.
    """
    config = checkpoint.config
    path = Path(target_name)
    return Output(
        sizes=plan_flax_file_sizes(config, path, dtype=check_flax_dtype(dtype.name)),
        pieces=lambda: [
            *whole_files({flax_config_path(path).name: _config_text(config).encode()}),
            *_tree_pieces(checkpoint, target_name, _forms(config, dtype.name)),
        ],
    )


def check_flax_dtype(dtype: str) -> FlaxDtype:
    """The name of a dtype that leaves can have.

    Raises:
        ValueError: they cannot.
    """
    if dtype not in _DTYPES:
        raise ValueError(f"a Flax bundle is written in {' or '.join(_DTYPES)}, not {dtype!r}")
    return cast("FlaxDtype", dtype)


def _tree_pieces(checkpoint: Checkpoint, name: str, forms: Mapping[TreePath, Form]) -> list[Piece]:
    """The structure as one piece, which gives the file its size, and one piece for the gaps of each leaf."""
    leaves = flax_leaves(checkpoint.config)
    structure: list[tuple[int, bytes]] = []
    gaps: dict[TreePath, list[tuple[int, int]]] = {}
    offset = 0
    for piece in encode_tree(forms):
        if isinstance(piece, Payload):
            gaps.setdefault(piece.path, []).append((offset, piece.nbytes))
        else:
            structure.append((offset, piece))
        offset += _size(piece)
    file_size = offset

    def write_structure(files: OutputFiles) -> None:
        files.set_size(name, file_size)
        for position, content in structure:
            files.write(name, position, content)

    def write_leaf(path: TreePath, files: OutputFiles) -> None:
        payload = _Stream(_leaf_bytes(checkpoint, leaves[path], forms[path].dtype))
        for position, nbytes in gaps[path]:
            for portion in payload.take(nbytes):
                files.write(name, position, portion)
                position += len(portion)

    return [Piece("structure of the tree", sum(len(content) for _, content in structure), write_structure)] + [
        Piece("/".join(path), forms[path].nbytes, functools.partial(write_leaf, path)) for path in gaps
    ]


def _size(piece: bytes | Payload) -> int:
    return piece.nbytes if isinstance(piece, Payload) else len(piece)


def flax_bytes(checkpoint: Checkpoint, *, dtype: FlaxDtype = "bfloat16") -> Iterator[bytes | memoryview]:
    """The `.msgpack` file from its first byte to its last, in chunks of at most some hundred MB.

    Raises:
        ValueError: no such dtype.
    """
    return _filled(checkpoint, _forms(checkpoint.config, dtype))


def _forms(config: GptOssConfig, dtype: str) -> dict[TreePath, Form]:
    leaf_dtype = _DTYPES[check_flax_dtype(dtype)]
    return {path: Form(leaf.shape, leaf_dtype) for path, leaf in flax_leaves(config).items()}


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
    return (in_c_order(array).reshape(-1).view(np.uint8).data for array in arrays)


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
                copy_by_tiles(stripe[:, start + rows.start : start + rows.stop], matrix.T)
            start += spec.shape[0]
        yield stripe


def _slices(extent: int, length: int) -> Iterator[slice]:
    length = max(1, length)
    for start in range(0, extent, length):
        yield slice(start, min(start + length, extent))
