"""MXFP4 as a value: blocks of 32 four-bit codes along the last axis, one power-of-two scale each.

A block is 16 bytes, low nibble first, and a scale byte; value = code · 2^(scale − 127). Decoding
looks up (scale, byte) → a pair of values in one table, which makes it exact by construction for
every byte, subnormals and overflow included, and leaves no arithmetic in the loop. It works in
chunks, so that beyond its result it needs a few MiB.
"""

import dataclasses
import functools

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

__all__ = ["FP4_VALUES", "MXFP4_BLOCK_SIZE", "Mxfp4Tensor", "decode_mxfp4"]

MXFP4_BLOCK_SIZE = 32  # values that share one scale
BYTES_PER_BLOCK = MXFP4_BLOCK_SIZE // 2
SCALE_BIAS = 127
LARGEST_EXACT_SCALE = 252  # beyond it code 6 overflows bfloat16 and float32 (OCP calls 255 NaN)
FP4_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
_DECODE_CHUNK_BLOCKS = 1 << 16  # 1 MiB of packed bytes at a time


@dataclasses.dataclass(frozen=True)
class Mxfp4Tensor:
    """A packed tensor. `blocks` uint8 [..., G, 16], `scales` uint8 [..., G]; values [..., 32·G].

    Raises:
        ValueError: the two do not belong together.
    """

    blocks: np.ndarray
    scales: np.ndarray

    def __post_init__(self) -> None:
        if self.blocks.dtype != np.uint8 or self.scales.dtype != np.uint8:
            raise ValueError(f"blocks and scales are uint8, not {self.blocks.dtype} and {self.scales.dtype}")
        if self.blocks.shape != (*self.scales.shape, BYTES_PER_BLOCK):
            raise ValueError(f"blocks {self.blocks.shape} do not fit scales {self.scales.shape}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the values."""
        *leading, groups = self.scales.shape
        return (*leading, groups * MXFP4_BLOCK_SIZE)

    @property
    def nbytes(self) -> int:
        """Packed size in bytes."""
        return self.blocks.nbytes + self.scales.nbytes

    def __getitem__(self, index: int | slice | tuple[int | slice, ...]) -> "Mxfp4Tensor":
        """Basic indexing, still packed; along the last axis only whole blocks.

        Raises:
            ValueError: the index would cut a block.
        """
        index = index if isinstance(index, tuple) else (index,)
        if len(index) == len(self.shape):
            index = (*index[:-1], self._groups(index[-1]))
        return Mxfp4Tensor(self.blocks[index], self.scales[index])

    def _groups(self, last: int | slice) -> slice:
        if not isinstance(last, slice):
            raise ValueError("one value cannot be cut out of a block; index whole blocks, or decode first")
        start, stop, step = last.indices(self.shape[-1])
        if step != 1 or start % MXFP4_BLOCK_SIZE or stop % MXFP4_BLOCK_SIZE:
            raise ValueError(f"{start}:{stop}:{step} does not fall on blocks of {MXFP4_BLOCK_SIZE}")
        return slice(start // MXFP4_BLOCK_SIZE, stop // MXFP4_BLOCK_SIZE)

    def decode(self, dtype: DTypeLike = ml_dtypes.bfloat16) -> np.ndarray:
        """The values; see `decode_mxfp4`."""
        return decode_mxfp4(self.blocks, self.scales, dtype=dtype)


def decode_mxfp4(blocks: np.ndarray, scales: np.ndarray, *, dtype: DTypeLike = ml_dtypes.bfloat16) -> np.ndarray:
    """Unpacks MXFP4, bit-equal to the official code.

    Args:
        blocks: uint8 [..., G, 16].
        scales: uint8 [..., G].
        dtype: bfloat16 or float32; both hold every value of scales 0 … 252 exactly.

    Returns:
        The values, [..., 32·G].

    Raises:
        ValueError: shapes or dtypes do not fit.

    Source: openai/gpt-oss torch/weights.py, `_get_mxfp4_tensor`.
    """
    packed = Mxfp4Tensor(blocks, scales)
    table = _pair_table(np.dtype(dtype))
    values = np.empty(packed.shape, dtype)
    pairs = values.reshape(-1, MXFP4_BLOCK_SIZE).view(table.dtype)
    flat_blocks = blocks.reshape(-1, BYTES_PER_BLOCK)
    flat_scales = scales.reshape(-1)
    for start in range(0, len(flat_scales), _DECODE_CHUNK_BLOCKS):
        chunk = slice(start, start + _DECODE_CHUNK_BLOCKS)
        rows = flat_scales[chunk].astype(np.uint16)[:, None] << np.uint16(8)
        np.take(table, rows | flat_blocks[chunk], out=pairs[chunk], mode="clip")
    return values


@functools.cache
def _pair_table(dtype: np.dtype) -> np.ndarray:
    """256·scale + byte → the byte's two values under that scale, as one unsigned integer."""
    if dtype not in (np.dtype(ml_dtypes.bfloat16), np.dtype(np.float32)):
        raise ValueError(f"MXFP4 decodes to bfloat16 or float32, not {dtype}")
    codes = np.array(FP4_VALUES, np.float64)
    byte = np.arange(256)
    pairs = np.stack([codes[byte & 15], codes[byte >> 4]], axis=-1)
    powers = np.exp2(np.arange(256) - float(SCALE_BIAS))
    with np.errstate(over="ignore"):
        values = (pairs[None] * powers[:, None, None]).astype(dtype)
    return values.reshape(-1).view(np.dtype(f"u{2 * dtype.itemsize}"))
