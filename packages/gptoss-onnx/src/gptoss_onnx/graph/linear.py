"""A linear layer over rows, y = x·Wᵀ + b."""

from gptoss_onnx import ir
from gptoss_onnx.graph.builder import MICROSOFT, GraphBuilder
from gptoss_onnx.graph.parameters import Kernel, Parameters, RoundedMatrix
from gptoss_onnx.recipe import ROUNDED_BLOCKS

__all__ = ["linear"]

ACTIVATIONS_IN_INT8 = 4  # MatMulNBits' accuracy_level; at the others its 8-bit kernel is 250 times slower


def linear(op: GraphBuilder, parameters: Parameters, x: ir.Value, name: str, *, has_bias: bool = True) -> ir.Value:
    """Applies `{name}.weight` [out, in] and `{name}.bias` [out]. x f32 [rows, in] → f32 [rows, out]."""
    own_name = name.rpartition(".")[2]
    with op.scope(own_name):
        weight = parameters.matrix(f"{name}.weight")
        bias = [parameters.float32(f"{name}.bias")] if has_bias else []
    if isinstance(weight, Kernel):
        return op.Gemm(x, weight.value, *bias, name=own_name)
    if isinstance(weight, RoundedMatrix):
        return op.MatMulNBits(
            *(x, weight.codes, weight.scales, None, None, *bias),
            name=own_name,
            domain=MICROSOFT,
            K=weight.columns,
            N=weight.out,
            bits=weight.bits,
            block_size=ROUNDED_BLOCKS[weight.bits],
            accuracy_level=ACTIVATIONS_IN_INT8,
        )
    return op.Gemm(x, weight, *bias, transB=1, name=own_name)
