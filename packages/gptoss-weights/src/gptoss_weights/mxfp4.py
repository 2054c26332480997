"""MXFP4 as a value: blocks of 32 four-bit codes along the last axis, one power-of-two scale each.

A block is 16 bytes, low nibble first, and a scale byte; value = code · 2^(scale − 127).

Decoding looks up two values at a time, by scale and byte, in one table that holds every answer of the
definition. Of its 65,536 rows a checkpoint's scales touch some fifteen times 256, which stay in a core's
cache. Beyond the result it holds the table, and 1.3 MiB a thread. A large result takes the memory that
an earlier one has left (`recycled_memory`).
"""

import dataclasses
import functools
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from gptoss_weights.processors import available_cores
from gptoss_weights.recycled_memory import recycled_empty
from gptoss_weights.tiled_copy import in_c_order

__all__ = ["FP4_VALUES", "MXFP4_BLOCK_SIZE", "Mxfp4Tensor", "decode_mxfp4"]

MXFP4_BLOCK_SIZE = 32  # values that share one scale
BYTES_PER_BLOCK = MXFP4_BLOCK_SIZE // 2
SCALE_BIAS = 127
LARGEST_EXACT_SCALE = 252  # beyond it code 6 overflows bfloat16 and float32 (OCP calls 255 NaN)
FP4_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_CHUNK_BLOCKS = 1 << 13  # with fewer, threads wait for each other between the calls of numpy
_BLOCKS_PER_THREAD = 1 << 16  # with less work a thread costs more than it saves


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


def decode_mxfp4(
    blocks: np.ndarray,
    scales: np.ndarray,
    *,
    dtype: DTypeLike = ml_dtypes.bfloat16,
    out: np.ndarray | None = None,
    threads: int | None = None,
) -> np.ndarray:
    """Unpacks MXFP4, bit-equal to the official code.

    Args:
        blocks: uint8 [..., G, 16], at any alignment; what is not C-contiguous is copied first.
        scales: uint8 [..., G].
        dtype: bfloat16 or float32; both hold every value of scales 0 … 252 exactly.
        out: C-contiguous [..., 32·G] of `dtype` to fill. By default a new array, which takes new pages
            of the system, or those of an earlier result that nobody uses any more.
        threads: How many to use at most, by default one a core; small tensors take one.

    Returns:
        The values, [..., 32·G]; `out` if it was given.

    Raises:
        ValueError: shapes or dtypes do not fit.

    Source: openai/gpt-oss torch/weights.py, `_get_mxfp4_tensor`.
    """
    packed, dtype = Mxfp4Tensor(blocks, scales), np.dtype(dtype)
    if dtype not in (_BFLOAT16, np.float32):
        raise ValueError(f"MXFP4 decodes to bfloat16 or float32, not {dtype}")
    if out is None:
        out = recycled_empty(packed.shape, dtype)
    elif out.shape != packed.shape or out.dtype != dtype or not out.flags.c_contiguous:
        found = f"{out.dtype} {out.shape}{'' if out.flags.c_contiguous else ', not contiguous'}"
        raise ValueError(f"out must be C-contiguous {dtype} {packed.shape}; it is {found}")
    threads = available_cores() if threads is None else threads
    if threads < 1:
        raise ValueError(f"threads must be positive, not {threads}")
    flat_blocks = in_c_order(blocks).reshape(-1, BYTES_PER_BLOCK)
    flat_scales = scales.reshape(-1)
    bits = out.reshape(-1, MXFP4_BLOCK_SIZE).view(f"u{dtype.itemsize}")
    workers = min(threads, len(bits) // _BLOCKS_PER_THREAD)
    if workers <= 1:
        _decode_blocks(flat_blocks, flat_scales, bits)
        return out
    length = -(-len(bits) // workers)
    parts = [slice(start, start + length) for start in range(0, len(bits), length)]
    with ThreadPoolExecutor(workers) as pool:  # numpy lets go of the interpreter's lock in every step
        list(pool.map(lambda part: _decode_blocks(flat_blocks[part], flat_scales[part], bits[part]), parts))
    return out


def _decode_blocks(blocks: np.ndarray, scales: np.ndarray, bits: np.ndarray) -> None:
    """Decodes uint8 [N, 16] and [N] into the bits of bfloat16 (uint16) or float32 (uint32), [N, 32]."""
    table, rows_of_scales = _two_values(bits.dtype), _rows_of_scales()
    pairs = bits.view(table.dtype)
    longest = min(len(bits), _CHUNK_BLOCKS)
    rows_buffer = np.empty((longest, BYTES_PER_BLOCK), np.uint16)
    indices_buffer = np.empty((longest, BYTES_PER_BLOCK), np.intp)
    for start in range(0, len(bits), _CHUNK_BLOCKS):
        chunk = slice(start, start + _CHUNK_BLOCKS)
        count = len(bits[chunk])
        rows, indices = rows_buffer[:count], indices_buffer[:count]
        np.take(rows_of_scales, scales[chunk], axis=0, out=rows.view(np.uint64), mode="wrap")
        np.add(rows, blocks[chunk], out=rows)
        np.copyto(indices, rows)
        np.take(table, indices, out=pairs[chunk], mode="wrap")


@functools.cache
def _two_values(bits: np.dtype) -> np.ndarray:
    """The bits of two values, as one integer, at 256 · scale + byte; [65536]."""
    byte = np.arange(256)
    codes = np.array(FP4_VALUES, np.float32)[np.stack([byte & 15, byte >> 4], axis=-1)]
    with np.errstate(over="ignore"):
        exact = np.ldexp(codes, byte[:, None, None].astype(np.int32) - SCALE_BIAS)
        narrowed = exact.astype(_BFLOAT16)
    values = narrowed if bits == np.uint16 else narrowed.astype(np.float32)
    return values.view(f"u{2 * bits.itemsize}").reshape(-1)


@functools.cache
def _rows_of_scales() -> np.ndarray:
    """Scale → 16 times 256 · scale as uint16, in [256, 4] uint64: numpy copies those at once."""
    return np.repeat(np.arange(0, 1 << 16, 256, dtype=np.uint16), BYTES_PER_BLOCK).view(np.uint64).reshape(256, -1)
