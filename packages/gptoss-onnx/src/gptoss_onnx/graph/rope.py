"""Rotary positions: YaRN's frequencies, turned by halves."""

import dataclasses

import numpy as np
from gptoss_weights import GptOssConfig, rope_concentration

from gptoss_onnx import ir
from gptoss_onnx.graph.builder import GraphBuilder

__all__ = ["Rotation", "apply_rope", "rope_rotation"]


@dataclasses.dataclass(frozen=True)
class Rotation:
    """Cosines and sines of every query position, times the concentration; f32 [B, 1, T, H/2]."""

    cos: ir.Value
    sin: ir.Value


def rope_rotation(op: GraphBuilder, config: GptOssConfig, positions: ir.Value) -> Rotation:
    """The rotation at positions int64 [B, T]. Angles are f32, as in the official code.

    Source: openai/gpt-oss torch/model.py, `RotaryEmbedding._compute_cos_sin`.
    """
    frequencies = config.inverse_frequencies()
    with op.scope("rope"):
        steps = op.Unsqueeze(op.Cast(positions, to=ir.DataType.FLOAT), op.ints(1, 3))
        angles = op.Mul(steps, op.constant(frequencies, np.float32, name="inverse_frequencies"), name="angles")
        concentration = op.scalar(rope_concentration(config.rope_scaling_factor))
        return Rotation(
            cos=op.Mul(op.Cos(angles), concentration, name="cos"),
            sin=op.Mul(op.Sin(angles), concentration, name="sin"),
        )


def apply_rope(op: GraphBuilder, x: ir.Value, rotation: Rotation) -> ir.Value:
    """Turns the pairs (a, b) of first and second half: (a·cos − b·sin, b·cos + a·sin). x f32 [B, N, T, H]."""
    first, second = op.many("Split", 2, x, axis=-1, num_outputs=2)
    return op.Concat(
        op.Sub(op.Mul(first, rotation.cos), op.Mul(second, rotation.sin)),
        op.Add(op.Mul(second, rotation.cos), op.Mul(first, rotation.sin)),
        axis=-1,
        name="rope",
    )
