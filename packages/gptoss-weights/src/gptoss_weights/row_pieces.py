"""A tensor in pieces of some rows, so that reading all of it takes little memory wherever it comes from."""

from collections.abc import Iterator

import numpy as np

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.mxfp4 import BYTES_PER_BLOCK, MXFP4_BLOCK_SIZE, Mxfp4Tensor

__all__ = ["PIECE_BYTES", "row_pieces", "row_slices"]

PIECE_BYTES = 48 << 20  # above an expert of gpt-oss-20b in bfloat16, 33 MB, which is read as one


def row_slices(checkpoint: Checkpoint, name: str, *, max_bytes: int = PIECE_BYTES) -> Iterator[slice]:
    """Ranges of rows, together all of the first axis, of at most so many bytes as they are read, or of one row.

    Raises:
        KeyError: no such tensor.
    """
    spec, dtype = checkpoint.specs[name], checkpoint.array_dtype(name)
    row_values = spec.size // spec.shape[0]
    row_bytes = row_values * dtype.itemsize if dtype else row_values // MXFP4_BLOCK_SIZE * (BYTES_PER_BLOCK + 1)
    rows = max(1, max_bytes // row_bytes)
    for start in range(0, spec.shape[0], rows):
        yield slice(start, min(start + rows, spec.shape[0]))


def row_pieces(
    checkpoint: Checkpoint, name: str, *, max_bytes: int = PIECE_BYTES
) -> Iterator[tuple[int, np.ndarray | Mxfp4Tensor]]:
    """The tensor in pieces of whole rows, each with the number of its first row.

    Raises:
        KeyError: no such tensor.
    """
    for rows in row_slices(checkpoint, name, max_bytes=max_bytes):
        yield rows.start, checkpoint.read(name, (rows,))
