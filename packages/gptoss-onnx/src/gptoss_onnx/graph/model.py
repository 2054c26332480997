"""The whole model as one graph: tokens, mask and cache in; logits, cache and probes out."""

from collections.abc import Collection

import numpy as np
from gptoss_weights import GptOssConfig, probe_specs

from gptoss_onnx import ir
from gptoss_onnx.graph.attending import grouped_attention, manual_attention
from gptoss_onnx.graph.attention import LayerCache
from gptoss_onnx.graph.block import block
from gptoss_onnx.graph.builder import INT64_MAX, GraphBuilder
from gptoss_onnx.graph.linear import linear
from gptoss_onnx.graph.parameters import Parameters
from gptoss_onnx.graph.reporting import Report
from gptoss_onnx.graph.residual import Residual
from gptoss_onnx.metadata import LOGITS_TO_KEEP
from gptoss_onnx.recipe import Recipe

__all__ = ["as_output", "build_graph", "cache_dtype", "cache_input", "cache_outputs", "graph_probes"]


def graph_probes(config: GptOssConfig) -> tuple[str, ...]:
    """Every probe that a graph can have as an output beside `logits`, in the order of the forward pass."""
    specs = probe_specs(config, tokens=1, block_debug=True)
    return tuple(name for name in specs if name not in ("tokens", "logits"))


def build_graph(
    op: GraphBuilder,
    config: GptOssConfig,
    parameters: Parameters,
    *,
    probes: Collection[str] = (),
    recipe: Recipe | None = None,
) -> ir.Graph:
    """Builds the graph; `op` is new, `parameters` makes its values with it, in the forms of `recipe`.

    Inputs: `input_ids` int64 [B, T]; `attention_mask` int64 [B, total], 1 for real tokens, past ones
    first; `past_key_values.{i}.key` and `.value` f32 [B, K, past, H]; `logits_to_keep` int64 [1], which
    may be left out: how many of the last columns get logits, 0 for all T.
    Outputs: `logits` f32 [B, T, V]; `present.{i}.key` and `.value`; the probes under their names,
    with a batch axis in front. A graph of one static shape has no cache, neither in nor out.

    Raises:
        ValueError: a probe is not known; `tokens` and `logits` are, and need no asking.

    Source: openai/gpt-oss torch/model.py, `Transformer`.
    """
    specs = probe_specs(config, tokens=1, block_debug=True)
    unknown = sorted(set(probes) - set(specs))
    if unknown:
        raise ValueError(f"no probe is called {', '.join(unknown)}; there are {', '.join(specs)}")
    report = Report(probes)
    recipe = recipe or Recipe()
    static = recipe.static
    batch_axis, length_axis = ("batch", "sequence") if static is None else (static.batch, static.length)

    token_ids = op.input("input_ids", ir.DataType.INT64, batch_axis, length_axis)
    mask = op.input("attention_mask", ir.DataType.INT64, batch_axis, "total" if static is None else static.length)
    layers = range(config.num_hidden_layers)
    dtype = cache_dtype(recipe)
    past = [cache_input(op, config, layer, dtype) for layer in layers] if static is None else []
    window_cache = past[0].key if past else None
    if recipe.attention == "manual":
        attend = manual_attention(op, config, parameters, token_ids=token_ids, mask=mask, window_cache=window_cache)
    else:
        attend = grouped_attention(
            op, config, parameters, token_ids=token_ids, mask=mask, probes=probes, dtype=dtype, recipe=recipe
        )
    with op.scope("model.embed_tokens"):
        ids = token_ids if recipe.is_by_sequence else op.reshape(token_ids, -1)
        x = op.Cast(op.Gather(parameters.stored("model.embed_tokens.weight"), ids, axis=0), to=ir.DataType.FLOAT)
    report("embedding", x)
    present = []
    stream = Residual(x, recipe.has_fused_norms)
    for layer in layers:
        stream, cache = block(
            op,
            config,
            parameters,
            stream,
            layer=layer,
            past=past[layer] if past else None,
            attend=attend,
            recipe=recipe,
            report=report.layer(layer),
        )
        present.append(cache)
    with op.scope("model.norm"):
        x, _ = stream.normed(op, parameters.float32("model.norm.weight"))
    report("final_norm", x)
    keep = op.initializer(ir.ArrayTensor(np.zeros(1, np.int64), LOGITS_TO_KEEP)) if static is None else None
    if keep is not None:
        x = _last(op, x, token_ids, keep, is_by_sequence=recipe.is_by_sequence)
    logits = linear(op, parameters, x, "lm_head", has_bias=False)

    def output(name: str, value: ir.Value) -> ir.Value:
        sizes = specs[name].shape[1:]  # behind T
        extents = (op.size(token_ids, 0), op.size(token_ids, 1)) if static is None else (static.batch, static.length)
        shaped = op.reshape(value, *extents, *sizes, name=f"outputs.{name}")
        dtype = ir.DataType.INT64 if specs[name].is_integer else ir.DataType.FLOAT
        return as_output(shaped, name, dtype, batch_axis, length_axis, *sizes)

    inputs = [token_ids, mask]
    if keep is None:
        outputs = [output("logits", logits)]
    else:
        if not recipe.is_by_sequence:
            logits = op.reshape(logits, op.size(token_ids, 0), -1, config.vocab_size, name="outputs.logits")
        outputs = [as_output(logits, "logits", ir.DataType.FLOAT, batch_axis, "kept", config.vocab_size)]
        inputs += [value for cache in past for value in (cache.key, cache.value)]
        for layer, cache in enumerate(present):
            outputs += cache_outputs(config, layer, cache, dtype)
        inputs.append(keep)
    outputs += [output(name, report.values[name]) for name in graph_probes(config) if name in report.values]
    return op.graph("gpt_oss", inputs, outputs)


def _last(op: GraphBuilder, x: ir.Value, token_ids: ir.Value, keep: ir.Value, *, is_by_sequence: bool) -> ir.Value:
    """The rows of the last `keep` columns, of all where it is 0. x f32 [B·T, D] or [B, T, D], token_ids [B, T]."""
    with op.scope("logits_to_keep"):
        if is_by_sequence:
            return op.slice(x, op.Neg(keep), INT64_MAX, axis=1)
        by_sequence = op.reshape(x, op.size(token_ids, 0), op.size(token_ids, 1), -1)
        return op.reshape(op.slice(by_sequence, op.Neg(keep), INT64_MAX, axis=1), -1, op.size(x, 1))


def cache_dtype(recipe: Recipe) -> ir.DataType:
    """What keys and values are kept in: f16 on CUDA, whose attention has nothing wider."""
    is_half = recipe.profile == "cuda" and recipe.attention == "grouped-query"
    return ir.DataType.FLOAT16 if is_half else ir.DataType.FLOAT


def cache_outputs(config: GptOssConfig, layer: int, cache: LayerCache, dtype: ir.DataType) -> list[ir.Value]:
    """The cache of a layer as the outputs `present.{layer}.key` and `.value`."""
    shape = ("batch", config.num_key_value_heads, f"present_{_kind(config, layer)}", config.head_dim)
    return [
        as_output(value, f"present.{layer}.{part}", dtype, *shape)
        for part, value in (("key", cache.key), ("value", cache.value))
    ]


def _kind(config: GptOssConfig, layer: int) -> str:
    return "window" if config.is_sliding(layer) else "total"


def cache_input(op: GraphBuilder, config: GptOssConfig, layer: int, dtype: ir.DataType) -> LayerCache:
    """The inputs `past_key_values.{layer}.key` and `.value`."""
    shape = ("batch", config.num_key_value_heads, f"past_{_kind(config, layer)}", config.head_dim)
    return LayerCache(
        key=op.input(f"past_key_values.{layer}.key", dtype, *shape),
        value=op.input(f"past_key_values.{layer}.value", dtype, *shape),
    )


def as_output(value: ir.Value, name: str, dtype: ir.DataType, *shape: int | str) -> ir.Value:
    """The value under its final name, with type and shape."""
    value.name, value.dtype, value.shape = name, dtype, shape
    return value
