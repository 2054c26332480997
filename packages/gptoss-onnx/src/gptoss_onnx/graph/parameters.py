"""What the graph asks of a checkpoint: values by canonical name."""

import dataclasses
from typing import Protocol

import onnx_ir as ir

__all__ = ["PackedExperts", "Parameters"]


@dataclasses.dataclass(frozen=True)
class PackedExperts:
    """One MXFP4 expert matrix of a layer: blocks uint8 [E, out, G, 16], scales uint8 [E, out, G]."""

    blocks: ir.Value
    scales: ir.Value


class Parameters(Protocol):
    """Checkpoint tensors as values of the graph under construction."""

    def stored(self, name: str) -> ir.Value:
        """The tensor as it is stored, in its own dtype."""

    def float32(self, name: str) -> ir.Value:
        """The tensor in f32."""

    def experts(self, name: str) -> PackedExperts | ir.Value:
        """An expert matrix [E, out, in]: packed, or as it is stored."""
