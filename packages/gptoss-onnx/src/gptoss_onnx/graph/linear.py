"""A linear layer over rows, y = x·Wᵀ + b."""

import onnx_ir as ir

from gptoss_onnx.graph.builder import GraphBuilder
from gptoss_onnx.graph.parameters import Parameters

__all__ = ["linear"]


def linear(op: GraphBuilder, parameters: Parameters, x: ir.Value, name: str, *, has_bias: bool = True) -> ir.Value:
    """Applies `{name}.weight` [out, in] and `{name}.bias` [out]. x f32 [rows, in] → f32 [rows, out]."""
    own_name = name.rpartition(".")[2]
    with op.scope(own_name):
        weight = parameters.float32(f"{name}.weight")
        bias = [parameters.float32(f"{name}.bias")] if has_bias else []
    return op.Gemm(x, weight, *bias, transB=1, name=own_name)
