"""Attention with sinks: grouped queries, a sliding window on even layers, a cache of past keys and values.

The sink is one more column of scores that no value belongs to. Being finite it also keeps a row
without any visible key (padding) free of NaN.
"""

import dataclasses

from gptoss_weights import GptOssConfig

from gptoss_onnx import ir
from gptoss_onnx.graph.builder import GraphBuilder
from gptoss_onnx.graph.linear import linear
from gptoss_onnx.graph.parameters import Parameters
from gptoss_onnx.graph.reporting import LayerReport
from gptoss_onnx.graph.rope import Rotation, apply_rope
from gptoss_onnx.graph.visibility import Visibility

__all__ = ["LayerCache", "attention"]


@dataclasses.dataclass(frozen=True)
class LayerCache:
    """Rotated keys and values of one layer; f32 [B, K, rows, H] each."""

    key: ir.Value
    value: ir.Value


def attention(
    op: GraphBuilder,
    config: GptOssConfig,
    parameters: Parameters,
    x: ir.Value,
    *,
    layer: int,
    past: LayerCache | None,
    visibility: Visibility,
    rotation: Rotation,
    report: LayerReport,
) -> tuple[ir.Value, LayerCache]:
    """Self-attention of one layer over normalised rows x f32 [B·T, D]; returns f32 [B·T, D] and the new cache.

    Source: openai/gpt-oss torch/model.py, `AttentionBlock` and `sdpa`.
    """
    is_sliding = config.is_sliding(layer)
    name = f"model.layers.{layer}.self_attn"
    batch, length = op.size(visibility.query_positions, 0), op.size(visibility.query_positions, 1)

    def heads(projection: str, count: int) -> ir.Value:
        rows = linear(op, parameters, x, f"{name}.{projection}")
        return op.Transpose(op.reshape(rows, batch, length, count, config.head_dim), perm=[0, 2, 1, 3])

    query = apply_rope(op, heads("q_proj", config.num_attention_heads), rotation)
    new_key = apply_rope(op, heads("k_proj", config.num_key_value_heads), rotation)
    new_value = heads("v_proj", config.num_key_value_heads)
    for probe, by_head in (("query", query), ("key", new_key), ("value", new_value)):
        if report.wants(probe):
            report(probe, op.Transpose(by_head, perm=[0, 2, 1, 3]))
    key = new_key if past is None else op.Concat(past.key, new_key, axis=2)
    value = new_value if past is None else op.Concat(past.value, new_value, axis=2)
    attended = _attend(
        op,
        config,
        query,
        key,
        value,
        bias=visibility.window_bias if is_sliding else visibility.full_bias,
        sinks=parameters.float32(f"{name}.sinks"),
    )
    rows = op.reshape(op.Transpose(attended, perm=[0, 2, 1, 3]), -1, config.q_size)
    if is_sliding and visibility.kept_rows is not None:
        key = op.GatherND(key, visibility.kept_rows, batch_dims=2)
        value = op.GatherND(value, visibility.kept_rows, batch_dims=2)
    return linear(op, parameters, rows, f"{name}.o_proj"), LayerCache(key, value)


def _attend(
    op: GraphBuilder,
    config: GptOssConfig,
    query: ir.Value,
    key: ir.Value,
    value: ir.Value,
    *,
    bias: ir.Value,
    sinks: ir.Value,
) -> ir.Value:
    """softmax(q·k / √H + bias, sink)·v. query f32 [B, N, T, H], key and value f32 [B, K, S, H], bias f32 [B, 1, T, S].

    The query heads of one key head stand together as more rows, so that no key is repeated.
    """
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    batch, length, keys = op.size(query, 0), op.size(query, 2), op.size(key, 2)

    scaled = op.Mul(query, op.scalar(config.head_dim**-0.5))
    grouped = op.reshape(scaled, batch, groups, -1, config.head_dim)
    products = op.MatMul(grouped, op.Transpose(key, perm=[0, 1, 3, 2]))
    scores = op.Add(op.reshape(products, batch, heads, length, keys), bias, name="scores")

    column = op.Expand(op.reshape(sinks, 1, heads, 1, 1), op.Concat(batch, op.ints(heads), length, op.ints(1), axis=0))
    with_sink = op.Softmax(op.Concat(scores, column, axis=-1), axis=-1, name="softmax_with_sink")
    weights = op.slice(with_sink, 0, -1, axis=3)

    attended = op.MatMul(op.reshape(weights, batch, groups, -1, keys), value)
    return op.reshape(attended, batch, heads, length, config.head_dim)
