"""Raw tensors: how a layout spells canonical parameters, so that one table serves both directions.

A raw tensor is one entry of a file: one or several parts stacked along the rows (the first axis),
each part a canonical parameter, or one half of an MXFP4 pair. Its shape and dtype follow from the
schema, so no layout repeats them; and since parts are row groups, each is one range of bytes.
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

__all__ = ["Part", "RawTensor", "locate", "raw_tensor", "split_mxfp4"]

type Half = Literal["array", "blocks", "scales"]

_DTYPES: Mapping[Half, np.dtype] = {
    "array": np.dtype(ml_dtypes.bfloat16),
    "blocks": np.dtype(np.uint8),
    "scales": np.dtype(np.uint8),
}


@dataclasses.dataclass(frozen=True)
class Part:
    """A canonical parameter, or the blocks or scales of one."""

    spec: TensorSpec
    half: Half = "array"

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
            case _:
                return self.spec.shape


@dataclasses.dataclass(frozen=True)
class RawTensor:
    """One entry of a file: its name there, and the parts that it stacks along its rows."""

    name: str
    parts: tuple[Part, ...]

    @property
    def dtype(self) -> np.dtype:
        """bfloat16, or uint8 for either half of an MXFP4 pair."""
        return _DTYPES[self.parts[0].half]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape on disk."""
        shapes = [part.shape for part in self.parts]
        return (sum(shape[0] for shape in shapes), *shapes[0][1:])

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def raw_tensor(name: str, specs: Iterable[TensorSpec]) -> RawTensor:
    """Canonical arrays stacked along their rows under one name."""
    return RawTensor(name, tuple(Part(spec) for spec in specs))


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
