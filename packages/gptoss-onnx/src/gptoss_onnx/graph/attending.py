"""Attend: one layer's attention with all that the layers share already computed, in either form."""

from collections.abc import Collection
from typing import Protocol

from gptoss_weights import GptOssConfig, layer_probe

from gptoss_onnx import ir
from gptoss_onnx.graph.attention import LayerCache, attention
from gptoss_onnx.graph.builder import GraphBuilder
from gptoss_onnx.graph.grouped_query import grouped_query_attention, sequence_lengths
from gptoss_onnx.graph.parameters import Parameters
from gptoss_onnx.graph.reporting import LayerReport
from gptoss_onnx.graph.rope import rope_rotation
from gptoss_onnx.graph.visibility import visible_keys
from gptoss_onnx.recipe import Recipe

__all__ = ["Attend", "grouped_attention", "manual_attention"]


class Attend(Protocol):
    """Self-attention of one layer over normalised rows f32 [B·T, D]: its output and the new cache."""

    def __call__(
        self, x: ir.Value, *, layer: int, past: LayerCache | None, report: LayerReport
    ) -> tuple[ir.Value, LayerCache]:
        """Appends the nodes of one layer."""


def manual_attention(
    op: GraphBuilder,
    config: GptOssConfig,
    parameters: Parameters,
    *,
    token_ids: ir.Value,
    mask: ir.Value,
    window_cache: ir.Value | None,
) -> Attend:
    """In ONNX's own operators; padding may stand anywhere. The arguments are those of `visible_keys`."""
    visibility = visible_keys(op, config, token_ids=token_ids, mask=mask, window_cache=window_cache)
    rotation = rope_rotation(op, config, visibility.query_positions)

    def attend(x: ir.Value, *, layer: int, past: LayerCache | None, report: LayerReport) -> tuple[ir.Value, LayerCache]:
        return attention(
            op, config, parameters, x, layer=layer, past=past, visibility=visibility, rotation=rotation, report=report
        )

    return attend


def grouped_attention(
    op: GraphBuilder,
    config: GptOssConfig,
    parameters: Parameters,
    *,
    token_ids: ir.Value,
    mask: ir.Value,
    probes: Collection[str],
    dtype: ir.DataType,
    recipe: Recipe,
) -> Attend:
    """In ONNX Runtime's GroupQueryAttention, in `dtype`; `probes` are those that will be reported."""
    is_rotated = any(
        layer_probe(layer, probe) in probes for layer in range(config.num_hidden_layers) for probe in ("query", "key")
    )
    lengths = sequence_lengths(op, config, token_ids=token_ids, mask=mask, with_rotation=is_rotated)

    def attend(x: ir.Value, *, layer: int, past: LayerCache | None, report: LayerReport) -> tuple[ir.Value, LayerCache]:
        assert past is not None, "this attention works in the buffers of its cache"
        return grouped_query_attention(
            op,
            config,
            parameters,
            x,
            layer=layer,
            past=past,
            token_ids=token_ids,
            lengths=lengths,
            dtype=dtype,
            is_by_sequence=recipe.is_by_sequence,
            report=report,
        )

    return attend
