"""Forms: the arrays that an export writes in place of a checkpoint's tensors, computed some rows at a time.

Each form takes one tensor and gives one or two arrays of other names, whose rows (of the first
axis) are independent, so that memory is bounded by a slice whatever the size of the model.
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Iterator, Mapping

import numpy as np
from gptoss_weights import (
    FP4_VALUES,
    MXFP4_BLOCK_SIZE,
    Checkpoint,
    GptOssConfig,
    Mxfp4Tensor,
    rope_concentration,
)

from gptoss_onnx.recipe import ROUNDED_BITS, ROUNDED_BLOCKS, Recipe

__all__ = ["ComputedArrays", "codes_name", "computed_arrays", "kernel_name", "scales_name", "table_name"]

SLICE_BYTES = 16 << 20  # of the arrays at a time; what it takes to compute them is some times as much
ROUNDING_BYTES = 16  # for a value that is rounded: four arrays of f32 at a time
PROJECTIONS = tuple(f".{part}_proj.{kind}" for part in "qkv" for kind in ("weight", "bias"))
INT8_ZERO = 128
SCALE_BIAS = 128  # 127 of MXFP4, and one for the doubled codes

type Shapes = Mapping[str, tuple[np.dtype, tuple[int, ...]]]
type Rows = tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class ComputedArrays:
    """Arrays that are computed together.

    Attributes:
        shapes: Raw name → dtype and shape; all have as many rows.
        rows: Their rows start … stop − 1, in the same order.
        row_bytes: What one row takes while it is computed, where that is more than what comes of it.
    """

    shapes: Shapes
    rows: Callable[[int, int], Rows]
    row_bytes: int = 0

    def pieces(self) -> Iterator[tuple[int, Rows]]:
        """All rows, some at a time: the first row's number, and the rows."""
        count = next(iter(self.shapes.values()))[1][0]
        nbytes = sum(dtype.itemsize * math.prod(shape) for dtype, shape in self.shapes.values())
        step = max(1, SLICE_BYTES // max(1, nbytes // count, self.row_bytes))
        for start in range(0, count, step):
            yield start, self.rows(start, min(start + step, count))


def kernel_name(name: str) -> str:
    """Of a dense matrix, the other way round."""
    return f"{name}.kernel"


def codes_name(name: str, bits: int = 8) -> str:
    """Of a matrix in int8 or int4."""
    return f"{name}.int{bits}"


def scales_name(name: str, bits: int = 8) -> str:
    """Of its scales."""
    return f"{name}.int{bits}_scales"


def table_name(name: str) -> str:
    """Of a rotation table, `cos` or `sin`."""
    return f"rotary.{name}"


def computed_arrays(
    checkpoint: Checkpoint, recipe: Recipe, names: Collection[str]
) -> tuple[list[ComputedArrays], set[str]]:
    """What a recipe computes of some tensors, and the canonical names of those that it leaves as they are."""
    computed, unchanged = [], set()
    for name in names:
        if recipe.has_merged_projections and ".self_attn." in name and name.endswith(PROJECTIONS):
            if ".q_proj." in name:
                computed.append(_merged_projections(checkpoint, name, ROUNDED_BITS[recipe.dense]))
            continue
        array = _computed(checkpoint, recipe, name)
        if array is None:
            unchanged.add(name)
        else:
            computed.append(array)
    if recipe.attention == "grouped-query" and any("self_attn" in name for name in names):
        computed.append(_rotation_tables(checkpoint.config))
    return computed, unchanged


def _computed(checkpoint: Checkpoint, recipe: Recipe, name: str) -> ComputedArrays | None:
    is_matrix = len(checkpoint.specs[name].shape) == 2 and name.endswith(".weight")
    if name.endswith(("gate_up_proj", "down_proj")):
        if recipe.experts == "int8":
            return _int8_experts(checkpoint, name)
        return _float32(checkpoint, name) if recipe.experts == "float32" else None
    if name == "model.embed_tokens.weight" or recipe.dense == "stored":
        return None
    if recipe.profile == "portable" or not is_matrix:
        return None if checkpoint.array_dtype(name) == np.float32 else _float32(checkpoint, name)
    if recipe.dense in ROUNDED_BITS and not name.endswith("router.weight"):
        return _rounded_matrix(checkpoint, name, ROUNDED_BITS[recipe.dense])
    return _kernel(checkpoint, name)


def _float32(checkpoint: Checkpoint, name: str) -> ComputedArrays:
    def rows(start: int, stop: int) -> Rows:
        return (_decoded(checkpoint, name, slice(start, stop)),)

    return ComputedArrays({name: (np.dtype(np.float32), checkpoint.specs[name].shape)}, rows)


def _kernel(checkpoint: Checkpoint, name: str) -> ComputedArrays:
    out, columns = checkpoint.specs[name].shape

    def rows(start: int, stop: int) -> Rows:
        return (checkpoint.read_array(name, (slice(None), slice(start, stop))).T.astype(np.float32),)

    return ComputedArrays({kernel_name(name): (np.dtype(np.float32), (columns, out))}, rows)


def _int8_experts(checkpoint: Checkpoint, name: str) -> ComputedArrays:
    experts, out, columns = checkpoint.specs[name].shape
    pairs = _code_pairs()

    def rows(start: int, stop: int) -> Rows:
        packed = checkpoint.read(name, (slice(start, stop),))
        assert isinstance(packed, Mxfp4Tensor), f"{name} is not packed"
        codes = pairs[packed.blocks].view(np.uint8).reshape(stop - start, out, columns)
        return codes, np.ldexp(np.float32(1), packed.scales.astype(np.int32) - SCALE_BIAS)

    return ComputedArrays(
        {
            codes_name(name): (np.dtype(np.uint8), (experts, out, columns)),
            scales_name(name): (np.dtype(np.float32), (experts, out, columns // MXFP4_BLOCK_SIZE)),
        },
        rows,
    )


def _code_pairs() -> np.ndarray:
    """Byte of two FP4 codes, the low one first → two bytes: twice their values, around 128; uint16 [256]."""
    codes = np.arange(256)[:, None] >> np.array([0, 4]) & 15
    doubled = (2 * np.array(FP4_VALUES))[codes] + INT8_ZERO
    pairs: np.ndarray = doubled.astype(np.uint8).view(np.uint16)[:, 0]
    return pairs


def _merged_projections(checkpoint: Checkpoint, name: str, bits: int) -> ComputedArrays:
    """Query, key and value projection as one matrix or bias, given the name of the query's."""
    sources = [name.replace(".q_proj.", f".{part}_proj.") for part in "qkv"]
    merged = name.replace(".q_proj.", ".qkv_proj.")
    ends = np.cumsum([0, *(checkpoint.specs[source].shape[0] for source in sources)]).tolist()

    def read(start: int, stop: int) -> np.ndarray:
        parts = [
            checkpoint.read_array(source, (slice(max(start - first, 0), max(min(stop, last) - first, 0)),))
            for source, first, last in zip(sources, ends, ends[1:], strict=False)
        ]
        return np.concatenate([part.astype(np.float32) for part in parts])

    if name.endswith(".bias"):
        return ComputedArrays({merged: (np.dtype(np.float32), (ends[-1],))}, lambda start, stop: (read(start, stop),))
    return _rounded(read, merged, (ends[-1], checkpoint.specs[name].shape[1]), bits)


def _rounded_matrix(checkpoint: Checkpoint, name: str, bits: int) -> ComputedArrays:
    """One dense matrix, rounded."""

    def read(start: int, stop: int) -> np.ndarray:
        return checkpoint.read_array(name, (slice(start, stop),)).astype(np.float32)

    out, columns = checkpoint.specs[name].shape
    return _rounded(read, name, (out, columns), bits)


def _rounded(read: Callable[[int, int], np.ndarray], name: str, shape: tuple[int, int], bits: int) -> ComputedArrays:
    """Rounded to `bits` bits, with a scale for each block of columns of a row.

    The value of greatest magnitude has the lowest code, of which there is one more than of positive ones:
    its scale is that value / −2^(bits − 1), and may be negative. Two codes of 4 bits share a byte, the low one first.
    """
    out, columns = shape
    block = ROUNDED_BLOCKS[bits]
    blocks = -(-columns // block)
    zero = 1 << bits - 1

    def rows(start: int, stop: int) -> Rows:
        padded = np.pad(read(start, stop), ((0, 0), (0, blocks * block - columns)))
        by_block = padded.reshape(stop - start, blocks, block)
        place = np.abs(by_block).argmax(axis=-1, keepdims=True)
        scales = np.take_along_axis(by_block, place, axis=-1) / np.float32(-zero)
        steps = by_block / np.where(scales == 0, np.float32(1), scales)
        codes: np.ndarray = (np.rint(steps) + zero).clip(0, 2 * zero - 1).astype(np.uint8)
        if bits == 4:
            codes = codes[..., ::2] | codes[..., 1::2] << 4
        return codes, scales[..., 0]

    return ComputedArrays(
        {
            codes_name(name, bits): (np.dtype(np.uint8), (out, blocks, block * bits // 8)),
            scales_name(name, bits): (np.dtype(np.float32), (out, blocks)),
        },
        rows,
        row_bytes=ROUNDING_BYTES * columns,
    )


def _rotation_tables(config: GptOssConfig) -> ComputedArrays:
    """Cos and sin of position × frequency in f32, as the official code computes them, times the concentration."""
    frequencies = config.inverse_frequencies().astype(np.float32)
    concentration = np.float32(rope_concentration(config.rope_scaling_factor))
    shape = (config.max_position_embeddings, len(frequencies))

    def rows(start: int, stop: int) -> Rows:
        angles = np.arange(start, stop, dtype=np.float32)[:, None] * frequencies
        return np.cos(angles) * concentration, np.sin(angles) * concentration

    return ComputedArrays({table_name(part): (np.dtype(np.float32), shape) for part in ("cos", "sin")}, rows)


def _decoded(checkpoint: Checkpoint, name: str, rows: slice) -> np.ndarray:
    tensor = checkpoint.read(name, (rows,))
    return tensor.decode(np.float32) if isinstance(tensor, Mxfp4Tensor) else tensor.astype(np.float32)
