"""Routing: each token chooses its k best experts and weighs them by a softmax over the chosen."""

import dataclasses

from gptoss_onnx import ir
from gptoss_onnx.graph.builder import GraphBuilder

__all__ = ["Routing", "route_tokens"]


@dataclasses.dataclass(frozen=True)
class Routing:
    """indices int64 [rows, k], best first; weights f32 [rows, k], summing to one."""

    indices: ir.Value
    weights: ir.Value


def route_tokens(op: GraphBuilder, logits: ir.Value, *, experts_per_token: int) -> Routing:
    """Routes by router logits f32 [rows, E]."""
    best, indices = op.many("TopK", 2, logits, op.ints(experts_per_token), axis=-1)
    return Routing(indices=indices, weights=op.Softmax(best, axis=-1))
