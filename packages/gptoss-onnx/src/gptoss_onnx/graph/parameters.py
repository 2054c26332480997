"""What the graph asks of a checkpoint: values by canonical name, in the forms that the export has chosen."""

import dataclasses
from typing import Protocol

from gptoss_onnx import ir

__all__ = ["Fp4Experts", "Int8Experts", "Kernel", "PackedExperts", "Parameters", "RoundedMatrix"]


@dataclasses.dataclass(frozen=True)
class PackedExperts:
    """One MXFP4 expert matrix of a layer: blocks uint8 [E, out, G, 16], scales uint8 [E, out, G]."""

    blocks: ir.Value
    scales: ir.Value


@dataclasses.dataclass(frozen=True)
class Fp4Experts:
    """The same bytes as QMoE takes them: codes uint8 [E, out, in / 2], scales float8e8m0 [E, out, in / 32]."""

    codes: ir.Value
    scales: ir.Value


@dataclasses.dataclass(frozen=True)
class Int8Experts:
    """The same in int8: codes uint8 [E, out, in] around 128, scales f32 [E, out, in / 32]."""

    codes: ir.Value
    scales: ir.Value


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A dense matrix the other way round: f32 [in, out], which one row of activations reads in order."""

    value: ir.Value


@dataclasses.dataclass(frozen=True)
class RoundedMatrix:
    """A dense matrix [out, columns], rounded to `bits` bits: codes uint8 [out, G, bytes], scales f32 [out, G].

    How many columns a block has: `gptoss_onnx.recipe.ROUNDED_BLOCKS`. Codes of 8 bits are around 128; those of
    4 bits around 8, two in a byte, the low one first.
    """

    codes: ir.Value
    scales: ir.Value
    bits: int
    out: int
    columns: int


class Parameters(Protocol):
    """Checkpoint tensors as values of the graph under construction."""

    def stored(self, name: str) -> ir.Value:
        """The tensor as it is stored, in its own dtype."""

    def float32(self, name: str) -> ir.Value:
        """The tensor in f32."""

    def matrix(self, name: str) -> ir.Value | Kernel | RoundedMatrix:
        """A dense matrix: f32 [out, in], or in another form."""

    def has_matrix(self, name: str) -> bool:
        """Whether a dense matrix of that name stands there: that of merged projections need not."""

    def experts(self, name: str) -> PackedExperts | Int8Experts | ir.Value:
        """An expert matrix [E, out, in]: packed, in int8, or in the dtype that it is stored in."""

    def fp4_experts(self, name: str) -> Fp4Experts:
        """A packed expert matrix for an operator that reads FP4 itself."""

    def rotation_table(self, name: str) -> ir.Value:
        """`cos` or `sin` of every position's angles, times the concentration, f32 [positions, H/2]."""
