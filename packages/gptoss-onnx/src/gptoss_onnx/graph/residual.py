"""The residual stream: every part of a layer is added to it, and the sum is normalised for the next part.

ONNX Runtime has one operator for a sum and its norm; for it a summand waits for the norm that follows. It
takes squares together one after the other, which takes eight exact layers from 1.3e-6 to 1.6e-6: so it is for
graphs that round more than that.
"""

import dataclasses

from gptoss_weights import RMS_NORM_EPS

from gptoss_onnx import ir
from gptoss_onnx.graph.builder import MICROSOFT, GraphBuilder
from gptoss_onnx.graph.rms_norm import rms_norm

__all__ = ["Residual"]


@dataclasses.dataclass(frozen=True)
class Residual:
    """Rows f32 [B·T, D], or [B, T, D].

    Attributes:
        rows: The stream, without what is waiting.
        is_fused: Whether ONNX Runtime's own operator may be used.
        waiting: What is still to be added, and the name of the sum.
    """

    rows: ir.Value
    is_fused: bool
    waiting: tuple[ir.Value, str] | None = None

    def plus(self, op: GraphBuilder, part: ir.Value, *, name: str) -> "Residual":
        """The stream and one more part; the sum is called `name` where it has an operator of its own."""
        waiting = dataclasses.replace(self.joined(op), waiting=(part, name))
        return waiting if self.is_fused else waiting.joined(op)

    def joined(self, op: GraphBuilder) -> "Residual":
        """The same, and nothing waits."""
        if self.waiting is None:
            return self
        part, name = self.waiting
        return Residual(op.Add(self.rows, part, name=name), self.is_fused)

    def normed(self, op: GraphBuilder, scale: ir.Value) -> "tuple[ir.Value, Residual]":
        """The normalised sum, times scale f32 [D], and the same stream, of which nothing waits any more."""
        if self.waiting is None:
            return rms_norm(op, self.rows, scale), self
        normed, _, _, rows = op.many(
            "SkipSimplifiedLayerNormalization",
            (True, False, False, True),  # not the mean, nor one over the deviation
            *(self.rows, self.waiting[0], scale),
            domain=MICROSOFT,
            epsilon=RMS_NORM_EPS,
        )
        return normed, Residual(rows, self.is_fused)
