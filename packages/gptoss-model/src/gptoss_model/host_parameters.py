"""Parameters on the host, in memory that becomes the device's buffer.

XLA's CPU backend takes a NumPy array over as it stands if it begins at a multiple of 64 bytes, and
copies it otherwise; NumPy's own arrays and the tensors of a memory-mapped file seldom do. So each
parameter, a whole stack of layers too, gets one aligned buffer, which is filled some rows at a
time: the bytes move once, from the file to where they stay, and are cast or decoded on the way.
Memory beyond the parameter: one piece of at most 48 MiB (`Checkpoint.row_slices`).
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from gptoss_weights import MXFP4_BLOCK_SIZE, Checkpoint, Mxfp4Tensor, decode_mxfp4
from numpy.typing import DTypeLike

from gptoss_model.parameters import ParameterSpec

__all__ = ["aligned_empty", "read_parameter"]

XLA_ALIGNMENT = 64  # bytes; openxla/xla xla/backends/cpu/alignment.h, `MinAlign`


def read_parameter(
    checkpoint: Checkpoint, spec: ParameterSpec, *, dtype: DTypeLike, packed: bool, index: Sequence[slice] = ()
) -> np.ndarray | Mxfp4Tensor:
    """A parameter, or the part of it that one device holds.

    Args:
        checkpoint: Where to read.
        spec: What to read.
        dtype: Of arrays; where MXFP4 is not kept, it is decoded to it.
        packed: Whether to keep MXFP4, which the checkpoint must hold then.
        index: For each axis of `spec`, or the first of them, a slice without a step; along the last
            axis of a tensor that stays packed only whole blocks. Nothing else is read.

    Returns:
        C-ordered buffers that XLA need not copy.
    """
    selected = [*index, *[slice(None)] * (len(spec.shape) - len(index))]
    ranges = [range(extent)[part] for part, extent in zip(selected, spec.shape, strict=True)]
    tensors = [spec.tensors[row] for row in ranges.pop(0)] if spec.is_stacked else spec.tensors
    shape = tuple(map(len, ranges))
    stack = (len(tensors), *shape)
    if not packed:
        values = aligned_empty(stack, dtype)
        for row, tensor in enumerate(tensors):
            wanted, skipped = ranges, 0
            if (
                checkpoint.array_dtype(tensor.name) is None
            ):  # where a device's part begins or ends within a block, the block is read, decoded, and cut
                wanted = [*ranges[:-1], _whole_blocks(ranges[-1])]
                skipped = ranges[-1].start - wanted[-1].start
            for start, piece in _pieces(checkpoint, tensor.name, wanted):
                _fill(values[row, start : start + piece.shape[0]], piece, skipped)
        return values if spec.is_stacked else values[0]
    groups = (*stack[:-1], stack[-1] // MXFP4_BLOCK_SIZE)
    blocks, scales = aligned_empty((*groups, MXFP4_BLOCK_SIZE // 2), np.uint8), aligned_empty(groups, np.uint8)
    for row, tensor in enumerate(tensors):
        for start, piece in _pieces(checkpoint, tensor.name, ranges):
            assert isinstance(piece, Mxfp4Tensor), f"{tensor.name} is packed"
            blocks[row, start : start + piece.shape[0]] = piece.blocks
            scales[row, start : start + piece.shape[0]] = piece.scales
    return Mxfp4Tensor(blocks, scales) if spec.is_stacked else Mxfp4Tensor(blocks[0], scales[0])


def aligned_empty(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """An uninitialised C-ordered array that begins where XLA wants its buffers to begin."""
    dtype = np.dtype(dtype)
    nbytes = math.prod(shape) * dtype.itemsize
    raw = np.empty(nbytes + XLA_ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % XLA_ALIGNMENT
    return raw[start : start + nbytes].view(dtype).reshape(shape)


def _pieces(
    checkpoint: Checkpoint, name: str, ranges: Sequence[range]
) -> Iterator[tuple[int, np.ndarray | Mxfp4Tensor]]:
    """A part of a tensor some rows at a time: the number of the first row inside the part, and the rows."""
    rows, *others = (slice(part.start, part.stop) for part in ranges)
    most = next(checkpoint.row_slices(name)).stop
    for start in range(rows.start, rows.stop, most):
        piece = checkpoint.read(name, (slice(start, min(start + most, rows.stop)), *others))
        yield start - rows.start, piece


def _whole_blocks(columns: range) -> range:
    """The columns of all blocks of MXFP4 that a range touches."""
    first, last = columns.start // MXFP4_BLOCK_SIZE, -(-columns.stop // MXFP4_BLOCK_SIZE)
    return range(first * MXFP4_BLOCK_SIZE, last * MXFP4_BLOCK_SIZE)


def _fill(target: np.ndarray, piece: np.ndarray | Mxfp4Tensor, skipped: int) -> None:
    """Casts or decodes a piece; `skipped` are the columns of its first block that are not wanted."""
    if isinstance(piece, Mxfp4Tensor) and piece.shape != target.shape:
        np.copyto(target, piece.decode(target.dtype)[..., skipped : skipped + target.shape[-1]])
    elif isinstance(piece, Mxfp4Tensor):
        decode_mxfp4(piece.blocks, piece.scales, dtype=target.dtype, out=target)
    else:
        np.copyto(target, piece, casting="unsafe")
