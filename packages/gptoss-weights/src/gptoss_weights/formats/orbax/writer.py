"""Writes MaxText's Orbax trees: zarr 3 arrays through TensorStore, a folder each, and Orbax's JSON files.

Layout on disk: one array a leaf, cut so that whoever reads one expert of one layer reads one chunk.
A leaf that is small as a whole is one chunk. Chunks are not compressed, so that sizes are known
before a byte is written, and end in a CRC-32C, which every reader checks, Orbax included: Orbax's
own files have none and let a flipped bit pass. Equal weights give equal files.

Memory: a block of rows of one canonical tensor (an expert, or 24 MiB) as it is read and decoded, and
the two chunks that are on their way to disk; never a leaf, of which the largest at 20b is 6.4 GB.
"""

import collections
import contextlib
import functools
import json
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.config import GptOssConfig
from gptoss_weights.config_dialects import dialect_of
from gptoss_weights.errors import GptOssError
from gptoss_weights.formats.orbax.backend import explained, load_tensorstore, shared_context, unsynced_context
from gptoss_weights.formats.orbax.location import CHECKPOINT_METADATA, COMMIT_SUCCESS, TREE_METADATA, Location
from gptoss_weights.formats.orbax.metadata import checkpoint_metadata_text, tree_metadata_text
from gptoss_weights.formats.orbax.reader import CONFIG_FILE
from gptoss_weights.formats.orbax.tree import Leaf, orbax_leaves
from gptoss_weights.mxfp4 import Mxfp4Tensor
from gptoss_weights.output.files import OutputFiles
from gptoss_weights.output.pieces import Output, Piece, whole_files
from gptoss_weights.tiled_copy import copy_by_tiles, in_c_order

if TYPE_CHECKING:
    from pathlib import Path

    import tensorstore

__all__ = ["CHUNK_BYTES", "LEAF_DTYPES", "OrbaxWriter", "orbax_output", "plan_orbax_sizes", "write_orbax"]

LEAF_DTYPES = (np.dtype(ml_dtypes.bfloat16), np.dtype(np.float32))  # what MaxText's parameters are

CHUNK_BYTES = 24 * 2**20  # holds a query kernel of 20b, and one of its expert matrices, but not two
CHECKSUM_BYTES = 4  # CRC-32C behind every chunk
_WRITES_IN_FLIGHT = 2  # of all leaves together; each holds its values twice, the second time as the bytes of a file


def plan_orbax_sizes(
    config: GptOssConfig, *, is_scanned: bool, dtype: DTypeLike = ml_dtypes.bfloat16
) -> dict[str, int]:
    """Folder of each leaf → bytes of its chunks, without writing them.

    Raises:
        CheckpointError: an odd number of layers cannot be scanned.
    """
    sizes = {}
    for leaf in orbax_leaves(config, is_scanned=is_scanned):
        chunk = _chunk_shape(leaf, np.dtype(dtype))
        count = math.prod(-(-extent // size) for extent, size in zip(leaf.shape, chunk, strict=True))
        sizes[leaf.key] = count * (math.prod(chunk) * np.dtype(dtype).itemsize + CHECKSUM_BYTES)
    return sizes


def orbax_output(checkpoint: Checkpoint, *, is_scanned: bool, dtype: DTypeLike = ml_dtypes.bfloat16) -> Output:
    """The tree in pieces: the arrays, then `config.json` and Orbax's metadata, `commit_success.txt` last.

    MaxText restores it with `load_parameters_path=<target>`. Packed experts are decoded to bfloat16;
    everything else keeps its dtype.

    Args:
        checkpoint: What to write.
        is_scanned: Whether layers are stacked in pairs, MaxText's default.
        dtype: Of the arrays, for their sizes.

    Raises:
        CheckpointError: an odd number of layers cannot be scanned.
        MissingDependencyError: the extra `orbax` is not installed.
    """
    load_tensorstore()
    leaves = orbax_leaves(checkpoint.config, is_scanned=is_scanned)
    texts = _texts(checkpoint.config, leaves, is_scanned=is_scanned)
    sizes = plan_orbax_sizes(checkpoint.config, is_scanned=is_scanned, dtype=dtype)

    def write(family: list[Leaf], files: OutputFiles) -> None:
        _write_family(checkpoint, Location.at(files.folder), family, unsynced_context())

    return Output(
        sizes=sizes | {name: len(content) for name, content in texts.items()},
        pieces=lambda: [
            *(
                Piece(
                    " ".join(leaf.key for leaf in family),
                    sum(sizes[leaf.key] for leaf in family),
                    functools.partial(write, family),
                )
                for family in _families(leaves)
            ),
            *whole_files(texts),
        ],
    )


def write_orbax(checkpoint: Checkpoint, target: "Path | str", *, is_scanned: bool) -> None:
    """Writes the tree, Orbax's metadata and `config.json` into an empty folder, everything synced to disk.

    Args:
        checkpoint: What to write.
        target: An existing empty folder, or a URL that TensorStore opens.
        is_scanned: Whether layers are stacked in pairs, MaxText's default.

    Raises:
        CheckpointError: an odd number of layers cannot be scanned.
        ValueError: tensors that share a leaf differ in dtype, or one is neither bfloat16 nor float32.
        NotEnoughSpaceError: the disk is full.
        MissingDependencyError: the extra `orbax` is not installed.
    """
    writer, folder = OrbaxWriter(checkpoint, is_scanned=is_scanned), Location.at(target)
    for _, _, write in writer.families(folder):
        write()
    for name, content in writer.texts().items():
        folder.write(name, content)


class OrbaxWriter:
    """A tree in its parts, for whoever writes them one at a time.

    Args:
        checkpoint: What to write.
        is_scanned: Whether layers are stacked in pairs.

    Raises:
        CheckpointError: an odd number of layers cannot be scanned.
        MissingDependencyError: the extra `orbax` is not installed.
    """

    def __init__(self, checkpoint: Checkpoint, *, is_scanned: bool) -> None:
        load_tensorstore()
        self._checkpoint, self._is_scanned = checkpoint, is_scanned
        self._leaves = orbax_leaves(checkpoint.config, is_scanned=is_scanned)

    def families(self, folder: Location) -> Iterator[tuple[str, int, Callable[[], None]]]:
        """For arrays that are made of the same tensors: their key, the bytes of their values, and what writes them.

        Writing them again replaces whatever is there of them.
        """
        for family in _families(self._leaves):
            first = family[0]
            dtype = self._checkpoint.array_dtype(first.specs[0].name) or np.dtype(ml_dtypes.bfloat16)
            nbytes = sum(leaf.size for leaf in family) * dtype.itemsize
            write = functools.partial(_write_family, self._checkpoint, folder, family, shared_context())
            yield " ".join(leaf.key for leaf in family), nbytes, write

    def texts(self) -> dict[str, bytes]:
        """The small files beside the arrays, in the order in which they have to be written."""
        return _texts(self._checkpoint.config, self._leaves, is_scanned=self._is_scanned)


def _texts(config: GptOssConfig, leaves: list[Leaf], *, is_scanned: bool) -> dict[str, bytes]:
    """The small files beside the arrays, in the order in which they are written."""
    return {
        CONFIG_FILE: _config_text(config).encode(),
        CHECKPOINT_METADATA: checkpoint_metadata_text({"scan_layers": is_scanned}).encode(),
        TREE_METADATA: tree_metadata_text(leaf.path for leaf in leaves).encode(),
        COMMIT_SUCCESS: b"Checkpoint commit was successful",
    }


def _families(leaves: list[Leaf]) -> list[list[Leaf]]:
    """Leaves that take from the same canonical tensors (gate and up), so that those are decoded once."""
    families: dict[str, list[Leaf]] = {}
    for leaf in leaves:
        families.setdefault(leaf.specs[0].name, []).append(leaf)
    return list(families.values())


def _write_family(checkpoint: Checkpoint, folder: Location, family: list[Leaf], context: "tensorstore.Context") -> None:
    first = family[0]
    dtype = _values(checkpoint, first.specs[0].name, slice(0, 1)).dtype
    outer = first.letters_of_axes()[0][0]
    with _WritesInFlight() as in_flight:
        writers = [_LeafWriter(folder, leaf, dtype, context, in_flight) for leaf in family]
        for position, spec in enumerate(first.specs):
            for block, rows in _row_blocks(first, dtype):
                values = _values(checkpoint, spec.name, rows)
                if values.dtype != dtype:
                    raise ValueError(
                        f"{spec.name} is {values.dtype}, but {first.specs[0].name}, which shares its leaf, is {dtype}"
                    )
                extents = {**first.sizes, outer: block.stop - block.start}
                split = values.reshape([extents[letter] for letter in first.split])
                for writer in writers:
                    writer.write(position, {outer: block}, split)
        for writer in writers:
            writer.finish()


def _values(checkpoint: Checkpoint, name: str, rows: slice) -> np.ndarray:
    tensor = checkpoint.read(name, (rows,))
    values = tensor.decode() if isinstance(tensor, Mxfp4Tensor) else tensor
    if values.dtype not in LEAF_DTYPES:
        raise ValueError(f"{name} is {values.dtype}; MaxText's leaves are bfloat16 or float32")
    return values


class _WritesInFlight:
    """The writes that have begun, no more than a few, so that a slow disk does not fill the memory.

    When the block ends all of it is on disk, and after an error nothing is on its way there any more, so that whoever
    then removes the folder removes it whole.
    """

    def __init__(self) -> None:
        self._pending: collections.deque[tuple[tensorstore.WriteFutures, str]] = collections.deque()

    def __enter__(self) -> "_WritesInFlight":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        while self._pending:
            with contextlib.suppress(*([] if kind is None else [GptOssError])):
                self._wait()

    def begin(self, region: "tensorstore.TensorStore", values: np.ndarray, where: str) -> None:
        """Begins a write as soon as there is room for it."""
        while len(self._pending) >= _WRITES_IN_FLIGHT:
            self._wait()
        self._pending.append((region.write(values), where))

    def _wait(self) -> None:
        written, where = self._pending.popleft()
        with explained("the leaf cannot be written", where=where):
            written.result()


class _LeafWriter:
    """Writes blocks of one leaf, chunk by chunk; a leaf of a single chunk is gathered and written at the end."""

    def __init__(
        self, folder: Location, leaf: Leaf, dtype: np.dtype, context: "tensorstore.Context", in_flight: _WritesInFlight
    ) -> None:
        self._leaf = leaf
        self._where = f"{folder}: {leaf.shown}"
        self._in_flight = in_flight
        chunk = _chunk_shape(leaf, dtype)
        with explained("the array cannot be made", where=self._where):
            self._array = load_tensorstore().open(_spec(folder, leaf, chunk, dtype), context=context).result()
        self._gathered = np.empty(leaf.shape, dtype) if chunk == leaf.shape else None

    def write(self, position: int, ranges: dict[str, slice], split: np.ndarray) -> None:
        """Writes what this leaf takes of a block with the axes of `Leaf.split`."""
        region, values = self._leaf.region(ranges, position), self._leaf.from_split(split)
        if self._gathered is not None:
            copy_by_tiles(self._gathered[region], values)
        else:
            self._in_flight.begin(self._array[region], in_c_order(values), self._where)

    def finish(self) -> None:
        """Writes what was gathered."""
        if self._gathered is not None:
            self._in_flight.begin(self._array, self._gathered, self._where)


def _row_blocks(leaf: Leaf, dtype: np.dtype) -> Iterator[tuple[slice, slice]]:
    """The ranges of the canonical tensor's first letter that are written at once, and the rows that they are."""
    outer, *inner = leaf.letters_of_axes()[0]
    extent, rows_each = leaf.sizes[outer], math.prod(leaf.sizes[letter] for letter in inner)
    step = _block(leaf, dtype)
    for start in range(0, extent, step):
        stop = min(start + step, extent)
        yield slice(start, stop), slice(start * rows_each, stop * rows_each)


def _block(leaf: Leaf, dtype: np.dtype) -> int:
    """How much of the first letter goes into one chunk: all, or equal parts as large as the limit allows."""
    extent = leaf.sizes[leaf.split[0]]
    nbytes = leaf.size // len(leaf.specs) * dtype.itemsize
    parts = min(extent, max(1, math.ceil(nbytes / CHUNK_BYTES)))
    if leaf.specs[0].is_expert_matrix and leaf.size * dtype.itemsize > CHUNK_BYTES:
        parts = extent  # an expert each
    return -(-extent // parts)


def _chunk_shape(leaf: Leaf, dtype: np.dtype) -> tuple[int, ...]:
    if leaf.size * dtype.itemsize <= CHUNK_BYTES:
        return leaf.shape
    extents = {**leaf.sizes, leaf.split[0]: _block(leaf, dtype)}
    return leaf.with_scan_axis([extents[letter] for letter in leaf.order], 1)


def _spec(folder: Location, leaf: Leaf, chunk: tuple[int, ...], dtype: np.dtype) -> dict[str, object]:
    kvstore = folder.kvstore()
    return {
        "driver": "zarr3",
        "kvstore": {**kvstore, "path": f"{kvstore['path']}{leaf.key}/"},
        "store_data_equal_to_fill_value": True,  # so that a chunk that is not there is known to be lost
        "create": True,
        "delete_existing": True,  # of an interrupted run
        "metadata": {
            "shape": leaf.shape,
            "data_type": dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
        },
    }


def _config_text(config: GptOssConfig) -> str:
    """In the dialect that it was read in; a quantisation that does not hold for these weights is left out."""
    if dialect_of(config.document) == "openai":
        return json.dumps(config.to_openai(), indent=2) + "\n"
    document = config.to_huggingface()
    document.pop("quantization_config", None)
    return json.dumps(document, indent=2) + "\n"
