"""MXFP4 inside the graph: one expert's matrix decoded from its packed bytes or int8 codes, in operators of opset 21.

Twice a code is an integer from −12 to 12, so it fits int8, and a block is an int8 row with the
scale 2^(e − 128): DequantizeLinear per row decodes it exactly, subnormal products included. A byte holds the
codes of an even and an odd column. Interleaving them would cost more than the decode; two products
over the even and the odd columns give the same sum, so each half is decoded as a matrix of its own.
Memory: one expert in f32, half a matrix at a time.
"""

import numpy as np
from gptoss_weights import FP4_VALUES, MXFP4_BLOCK_SIZE

from gptoss_onnx import ir
from gptoss_onnx.graph.builder import INT64_MAX, GraphBuilder
from gptoss_onnx.graph.parameters import Int8Experts, PackedExperts

__all__ = ["int8_linear", "packed_linear"]

BYTES_PER_BLOCK = 16  # of 32 values
INT8_ZERO = 128  # the code of zero, as ONNX Runtime's operators have it
SCALE_BIAS = 128  # 127 of MXFP4, and one for the doubled codes


def packed_linear(
    op: GraphBuilder, x: ir.Value, matrices: PackedExperts, bias: ir.Value, *, expert: ir.Value, out: int, columns: int
) -> ir.Value:
    """x·Wᵀ + b with one expert's packed W [out, columns]. x f32 [rows, columns], bias f32 [out], expert int64 []."""
    packed = op.reshape(op.Gather(matrices.blocks, expert, axis=0), -1)
    bytes_ = op.Cast(packed, to=ir.DataType.INT32)
    exponents = op.Cast(op.reshape(op.Gather(matrices.scales, expert, axis=0), -1), to=ir.DataType.INT32)
    scales = op.GatherElements(_half_powers(op), exponents, name="scales")
    total = bias
    for parity in (0, 1):
        doubled = op.reshape(op.GatherElements(_doubled_codes(op, parity), bytes_), -1, BYTES_PER_BLOCK)
        weight = op.reshape(op.DequantizeLinear(doubled, scales, axis=0), out, columns // 2)
        total = op.Gemm(op.slice(x, parity, INT64_MAX, axis=1, step=2), weight, total, transB=1)
    return total


def int8_linear(
    op: GraphBuilder, x: ir.Value, matrices: Int8Experts, bias: ir.Value, *, expert: ir.Value, out: int, columns: int
) -> ir.Value:
    """`packed_linear` of a matrix in int8: codes uint8 [E, out, columns], scales f32 [E, out, columns / 32]."""
    codes = op.reshape(op.Gather(matrices.codes, expert, axis=0), -1, MXFP4_BLOCK_SIZE)
    scales = op.reshape(op.Gather(matrices.scales, expert, axis=0), -1)
    zeros = op.Expand(op.scalar(INT8_ZERO, np.uint8), op.Shape(scales))
    weight = op.reshape(op.DequantizeLinear(codes, scales, zeros, axis=0), out, columns)
    return op.Gemm(x, weight, bias, transB=1)


def _doubled_codes(op: GraphBuilder, parity: int) -> ir.Value:
    """Byte → twice the value of its low (even columns) or high (odd) code, int8 [256]."""
    codes = np.arange(256) >> (4 * parity) & 15
    doubled = 2 * np.array(FP4_VALUES)[codes]
    return op.constant(doubled, np.int8, name="fp4_odd_columns" if parity else "fp4_even_columns")


def _half_powers(op: GraphBuilder) -> ir.Value:
    """Scale byte e → 2^(e − 128), f32 [256]; the two smallest are subnormal."""
    return op.constant(np.exp2(np.arange(256.0) - SCALE_BIAS), np.float32, name="mxfp4_scales")
