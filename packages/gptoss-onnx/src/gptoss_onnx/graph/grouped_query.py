"""Attention in one operator of ONNX Runtime, GroupQueryAttention: rotation, cache, window and sinks inside.

Its cache is in place: the caller passes the same buffer as past and present. On full layers row p
holds position p. On sliding layers the operator keeps the newest rows at the buffer's start, in
order, and moves them when the buffer is full. Each sequence's tokens must stand side by side from
its own start, so padding is the caller's to leave out.
"""

import dataclasses

import numpy as np
from gptoss_weights import GptOssConfig

from gptoss_onnx import ir
from gptoss_onnx.graph.attention import LayerCache
from gptoss_onnx.graph.builder import MICROSOFT, GraphBuilder
from gptoss_onnx.graph.linear import linear
from gptoss_onnx.graph.parameters import Parameters
from gptoss_onnx.graph.reporting import LayerReport
from gptoss_onnx.graph.rope import Rotation, apply_rope, rope_rotation

__all__ = ["Lengths", "grouped_query_attention", "sequence_lengths"]


@dataclasses.dataclass(frozen=True)
class Lengths:
    """How long the sequences are with the new tokens.

    Attributes:
        last: int32 [B], the position of each sequence's last token.
        longest: int32 [], the length of the longest.
        rotation: Of the new tokens, where a probe asks for rotated values, else None.
    """

    last: ir.Value
    longest: ir.Value
    rotation: Rotation | None


def sequence_lengths(
    op: GraphBuilder, config: GptOssConfig, *, token_ids: ir.Value, mask: ir.Value, with_rotation: bool
) -> Lengths:
    """The lengths, from a mask int64 [B, total] that is 1 for every token so far and for token_ids [B, T]."""
    with op.scope("lengths"):
        count = op.ReduceSum(mask, op.ints(1), keepdims=0)
        last = op.Sub(count, op.scalar(1, np.int64))
        rotation = None
        if with_rotation:
            length = op.Squeeze(op.size(token_ids, 1), op.ints(0))
            steps = op.Range(op.scalar(0, np.int64), length, op.scalar(1, np.int64))
            first = op.Unsqueeze(op.Sub(count, length), op.ints(1))
            rotation = rope_rotation(op, config, op.Add(first, steps))
        return Lengths(
            last=op.Cast(last, to=ir.DataType.INT32, name="last"),
            longest=op.Cast(op.Squeeze(op.size(mask, 1), op.ints(0)), to=ir.DataType.INT32, name="longest"),
            rotation=rotation,
        )


def grouped_query_attention(
    op: GraphBuilder,
    config: GptOssConfig,
    parameters: Parameters,
    x: ir.Value,
    *,
    layer: int,
    past: LayerCache,
    token_ids: ir.Value,
    lengths: Lengths,
    dtype: ir.DataType,
    is_by_sequence: bool,
    report: LayerReport,
) -> tuple[ir.Value, LayerCache]:
    """Self-attention of one layer over normalised rows x f32 [B·T, D] or [B, T, D]; returns the same, and the cache.

    The operator, and its cache, are in `dtype`: f32 on a CPU; CUDA has it in f16 only.

    Source: openai/gpt-oss torch/model.py, `AttentionBlock` and `sdpa`.
    """
    name = f"model.layers.{layer}.self_attn"
    batch, length = op.size(token_ids, 0), op.size(token_ids, 1)

    is_cast = dtype != ir.DataType.FLOAT

    def cast(value: ir.Value) -> ir.Value:
        return op.Cast(value, to=dtype) if is_cast else value

    def project(projection: str) -> ir.Value:
        projected = linear(op, parameters, x, f"{name}.{projection}")
        return projected if is_by_sequence else op.reshape(projected, batch, length, -1)

    heads = {
        "query": config.num_attention_heads,
        "key": config.num_key_value_heads,
        "value": config.num_key_value_heads,
    }
    operands: list[ir.Value | None]
    if parameters.has_matrix(f"{name}.qkv_proj.weight"):
        merged = project("qkv_proj")
        operands = [cast(merged), None, None]
        ends = np.cumsum([0, *heads.values()]) * config.head_dim
        rows = {
            probe: op.slice(merged, int(start), int(stop), axis=2)
            for probe, start, stop in zip(heads, ends, ends[1:], strict=False)
            if report.wants(probe)
        }
    else:
        rows = {probe: project(f"{probe[0]}_proj") for probe in heads}
        operands = [cast(own) for own in rows.values()]
    for probe, own in rows.items():
        if report.wants(probe):
            rotation = None if probe == "value" else lengths.rotation
            report(probe, _by_head(op, config, own, heads[probe], rotation))
    window = {"local_window_size": config.sliding_window, "sliding_window_cache": 1}
    attended, present_key, present_value = op.many(
        "GroupQueryAttention",
        3,
        *operands,
        *(past.key, past.value, lengths.last, lengths.longest),
        *(cast(parameters.rotation_table("cos")), cast(parameters.rotation_table("sin"))),
        *(None, None),  # positions are counted, and no bias is added
        cast(parameters.float32(f"{name}.sinks")),
        name="attention",
        domain=MICROSOFT,
        num_heads=config.num_attention_heads,
        kv_num_heads=config.num_key_value_heads,
        scale=config.head_dim**-0.5,
        do_rotary=1,
        rotary_interleaved=0,
        **(window if config.is_sliding(layer) else {}),
    )
    mixed = op.Cast(attended, to=ir.DataType.FLOAT) if is_cast else attended
    if not is_by_sequence:
        mixed = op.reshape(mixed, -1, config.q_size)
    return linear(op, parameters, mixed, f"{name}.o_proj"), LayerCache(present_key, present_value)


def _by_head(op: GraphBuilder, config: GptOssConfig, rows: ir.Value, heads: int, rotation: Rotation | None) -> ir.Value:
    """[B, T, heads · H] → [B, T, heads, H], rotated outside the operator, which does not give that out."""
    batch, length = op.size(rows, 0), op.size(rows, 1)
    by_head = op.reshape(rows, batch, length, heads, config.head_dim)
    if rotation is None:
        return by_head
    turned = apply_rope(op, op.Transpose(by_head, perm=[0, 2, 1, 3]), rotation)
    return op.Transpose(turned, perm=[0, 2, 1, 3])
