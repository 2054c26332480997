"""RMSNorm: x / sqrt(mean(x²) + eps) · scale."""

from gptoss_weights import RMS_NORM_EPS

from gptoss_onnx import ir
from gptoss_onnx.graph.builder import GraphBuilder

__all__ = ["rms_norm"]


def rms_norm(op: GraphBuilder, x: ir.Value, scale: ir.Value) -> ir.Value:
    """Normalises rows. x f32 [..., D], scale f32 [D].

    Source: openai/gpt-oss torch/model.py, `RMSNorm`.
    """
    # Written as Pow, for so ONNX Runtime knows it as a norm.
    mean_square = op.ReduceMean(op.Pow(x, op.scalar(2.0)), op.ints(-1), keepdims=1)
    root = op.Sqrt(op.Add(mean_square, op.scalar(RMS_NORM_EPS)))
    return op.Mul(op.Div(x, root), scale)
