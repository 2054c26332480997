"""Checkpoint: a lazy mapping from canonical names to tensors, whatever stands behind it.

Opening reads headers only and holds every name, shape and dtype against the schema. `read` touches
only the bytes that it returns: whole tensors come as read-only views of a memory-mapped file. So
each transformation is a checkpoint around a checkpoint, and memory is bounded by construction.
"""

import abc
import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from gptoss_weights.config import GptOssConfig
from gptoss_weights.mxfp4 import BYTES_PER_BLOCK, MXFP4_BLOCK_SIZE, Mxfp4Tensor
from gptoss_weights.schema import TensorSpec, tensor_specs
from gptoss_weights.tiled_copy import in_c_order

__all__ = ["Checkpoint", "Index", "StoredArray", "StoredMxfp4"]

type Index = tuple[int | slice, ...]

PIECE_BYTES = 48 << 20  # above an expert of gpt-oss-20b in bfloat16, 33 MB, which is read as one


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredArray:
    """Where a C-ordered array stands: `shape` elements of `dtype`, `offset` bytes into the file `path`."""

    path: Path
    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def rows(self, start: int, stop: int) -> "StoredArray":
        """The rows start … stop − 1 of the first axis, which are contiguous too."""
        row_bytes = self.nbytes // self.shape[0]
        return dataclasses.replace(self, offset=self.offset + start * row_bytes, shape=(stop - start, *self.shape[1:]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredMxfp4:
    """Where the two halves of an `Mxfp4Tensor` stand."""

    blocks: StoredArray
    scales: StoredArray

    @property
    def nbytes(self) -> int:
        """Packed size in bytes."""
        return self.blocks.nbytes + self.scales.nbytes


class Checkpoint(abc.ABC):
    """A lazy mapping from canonical names (`gptoss_weights.schema`) to tensors.

    Attributes:
        config: The geometry.
        format: Name of the layout that it was opened from, or of the view that made it.
        side_files: Tokenizer, chat template, generation config, …: file name → path.
    """

    config: GptOssConfig
    format: str
    side_files: Mapping[str, Path]

    @functools.cached_property
    def specs(self) -> dict[str, TensorSpec]:
        """Every parameter, in the order of the forward pass."""
        return tensor_specs(self.config)

    def __iter__(self) -> Iterator[str]:
        return iter(self.specs)

    def __len__(self) -> int:
        return len(self.specs)

    @abc.abstractmethod
    def read(self, name: str, index: Index = ()) -> np.ndarray | Mxfp4Tensor:
        """One tensor, or the part that a basic index (integers and slices) selects.

        Args:
            name: Canonical name.
            index: For each leading axis an integer or a slice; along the last axis of an MXFP4
                tensor only whole blocks.

        Returns:
            A read-only array, or an `Mxfp4Tensor` where the checkpoint holds the experts packed.

        Raises:
            KeyError: no such tensor.
        """

    def stored(self, name: str) -> StoredArray | StoredMxfp4 | None:
        """Where the tensor's bytes stand on disk, or None where they must be computed.

        Raises:
            KeyError: no such tensor.
        """
        if name not in self.specs:
            raise KeyError(name)
        return None

    def places(self, name: str) -> tuple[Path | str, ...]:
        """The files that hold some of a tensor; a folder or URL where each array has one; nothing if it is computed.

        Raises:
            KeyError: no such tensor.
        """
        match self.stored(name):
            case StoredMxfp4(blocks=blocks, scales=scales):
                return tuple(dict.fromkeys((blocks.path, scales.path)))
            case StoredArray(path=path):
                return (path,)
        return ()

    def array_dtype(self, name: str) -> np.dtype | None:
        """The dtype in which `read` gives a tensor, or None where it is packed as MXFP4.

        Raises:
            KeyError: no such tensor.
        """
        nothing = self.read(name, (slice(0, 0),))
        return None if isinstance(nothing, Mxfp4Tensor) else nothing.dtype

    def fingerprint(self) -> str | None:
        """Tells cheaply whether two checkpoints, of two runs of a program, are the same.

        What was interrupted goes on only from a checkpoint of the same fingerprint.

        Returns:
            A text that differs wherever the tensors may; None where that cannot be known.
        """
        return None

    def read_array(self, name: str, index: Index = ()) -> np.ndarray:
        """`read` of a tensor that is never packed.

        Raises:
            TypeError: it is packed.
        """
        tensor = self.read(name, index)
        if isinstance(tensor, Mxfp4Tensor):
            raise TypeError(f"{name} is packed as MXFP4; read() returns it as such")
        return tensor

    def row_slices(self, name: str, *, max_bytes: int = PIECE_BYTES) -> Iterator[slice]:
        """Ranges of rows, together all of the first axis, of at most so many bytes as they are read, or of one row.

        Raises:
            KeyError: no such tensor.
        """
        spec, dtype = self.specs[name], self.array_dtype(name)
        row_values = spec.size // spec.shape[0]
        row_bytes = row_values * dtype.itemsize if dtype else row_values // MXFP4_BLOCK_SIZE * (BYTES_PER_BLOCK + 1)
        rows = max(1, max_bytes // row_bytes)
        for start in range(0, spec.shape[0], rows):
            yield slice(start, min(start + rows, spec.shape[0]))

    def pieces(self, name: str, *, max_bytes: int = PIECE_BYTES) -> Iterator[tuple[int, np.ndarray | Mxfp4Tensor]]:
        """A whole tensor in bounded memory: some rows of its first axis at a time.

        Yields:
            The number of the first row, and the rows.

        Raises:
            KeyError: no such tensor.
        """
        for rows in self.row_slices(name, max_bytes=max_bytes):
            yield rows.start, self.read(name, (rows,))

    def digest(self) -> str:
        """SHA-256 over the mathematics: config numbers and all tensors, the same in every layout.

        Memory holds one of the `pieces`, and the scales of one tensor.
        """
        sha = hashlib.sha256(json.dumps(self.config.numbers(), sort_keys=True).encode())
        for name in self.specs:
            scales = []  # they come with the blocks and are hashed after them
            for start, piece in self.pieces(name):
                if isinstance(piece, Mxfp4Tensor):
                    scales.append(piece.scales)
                    piece = piece.blocks
                if start == 0:
                    sha.update(self._heading(name, piece))
                sha.update(_bytes_of(piece))
            if scales:
                sha.update(self._heading(name, scales[0]))
            for piece in scales:
                sha.update(_bytes_of(piece))
        return sha.hexdigest()

    def _heading(self, name: str, piece: np.ndarray) -> bytes:
        """What the digest takes in before the bytes of an array that begins with `piece`."""
        return f"{name} {piece.dtype} {(self.specs[name].shape[0], *piece.shape[1:])}".encode()


def _bytes_of(array: np.ndarray) -> memoryview:
    return in_c_order(array).reshape(-1).view(np.uint8).data
