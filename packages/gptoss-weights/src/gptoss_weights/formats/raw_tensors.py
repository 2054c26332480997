"""Raw tensors: how a layout spells canonical parameters, so that one table serves both directions.

A raw tensor is one entry of a file: one or several parts stacked along the rows (the first axis),
each part a canonical parameter, or one half of an MXFP4 pair. Its shape and dtype follow from the
schema, so no layout repeats them; and since parts are row groups, each is one range of bytes.

Arrays are published in bfloat16; float16, float32 and float64 are read as well.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Literal

import ml_dtypes
import numpy as np

from gptoss_weights.checkpoint import StoredArray, StoredMxfp4
from gptoss_weights.mxfp4 import MXFP4_BLOCK_SIZE
from gptoss_weights.schema import TensorSpec

__all__ = ["ARRAY_DTYPES", "BFLOAT16", "Half", "Part", "RawTensor", "locate", "raw_tensor", "split_mxfp4"]

type Half = Literal["array", "blocks", "scales"]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
ARRAY_DTYPES = (BFLOAT16, np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64))


@dataclasses.dataclass(frozen=True)
class Part:
    """A canonical parameter, or the blocks or scales of one; `is_transposed` swaps its last two axes."""

    spec: TensorSpec
    half: Half = "array"
    is_transposed: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape on disk; blocks [..., G, 16], scales [..., G]."""
        *leading, last = self.spec.shape
        groups = last // MXFP4_BLOCK_SIZE
        match self.half:
            case "blocks":
                return (*leading, groups, MXFP4_BLOCK_SIZE // 2)
            case "scales":
                return (*leading, groups)
            case _ if self.is_transposed:
                return (*leading[:-1], last, leading[-1])
            case _:
                return self.spec.shape

    @property
    def size(self) -> int:
        """Number of elements on disk."""
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class RawTensor:
    """One entry of a file: its name there, and the parts that it stacks along its rows."""

    name: str
    parts: tuple[Part, ...]
    array_dtype: np.dtype = BFLOAT16

    @property
    def dtype(self) -> np.dtype:
        """The dtype of arrays, or uint8 for either half of an MXFP4 pair."""
        return self.array_dtype if self.parts[0].half == "array" else np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape on disk."""
        shapes = [part.shape for part in self.parts]
        return (sum(shape[0] for shape in shapes), *shapes[0][1:])

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def raw_tensor(name: str, specs: Iterable[TensorSpec], *, is_transposed: bool = False) -> RawTensor:
    """Canonical arrays stacked along their rows under one name."""
    return RawTensor(name, tuple(Part(spec, is_transposed=is_transposed) for spec in specs))


def split_mxfp4(blocks_name: str, scales_name: str, spec: TensorSpec) -> tuple[RawTensor, RawTensor]:
    """The two raw tensors of an expert matrix."""
    return RawTensor(blocks_name, (Part(spec, "blocks"),)), RawTensor(scales_name, (Part(spec, "scales"),))


def locate(raw_tensors: Iterable[RawTensor], stored: Mapping[str, StoredArray]) -> dict[str, StoredArray | StoredMxfp4]:
    """Canonical name → where its bytes stand, from raw name → where those stand."""
    halves: dict[tuple[str, Half], StoredArray] = {}
    for raw in raw_tensors:
        row = 0
        for part in raw.parts:
            rows = part.shape[0]
            halves[part.spec.name, part.half] = stored[raw.name].rows(row, row + rows)
            row += rows
    tensors: dict[str, StoredArray | StoredMxfp4] = {}
    for (name, half), array in halves.items():
        if half == "array":
            tensors[name] = array
        elif half == "blocks":
            tensors[name] = StoredMxfp4(blocks=array, scales=halves[name, "scales"])
    return tensors
