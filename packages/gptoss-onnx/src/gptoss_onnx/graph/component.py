"""One part of the model as a graph of its own: attention, MLP, norm or block of one layer."""

from gptoss_weights import GptOssConfig

from gptoss_onnx import ir
from gptoss_onnx.graph.attending import grouped_attention, manual_attention
from gptoss_onnx.graph.attention import LayerCache
from gptoss_onnx.graph.block import block, mlp
from gptoss_onnx.graph.builder import GraphBuilder
from gptoss_onnx.graph.model import as_output, cache_dtype, cache_input, cache_outputs
from gptoss_onnx.graph.parameters import Parameters
from gptoss_onnx.graph.reporting import Report
from gptoss_onnx.graph.residual import Residual
from gptoss_onnx.graph.rms_norm import rms_norm
from gptoss_onnx.recipe import ComponentName, Recipe

__all__ = ["COMPONENT_PROBES", "COMPONENT_TENSORS", "build_component_graph"]

# What a part takes and what it gives, as probes of its layer; "input" is the residual stream before the layer.
COMPONENT_PROBES: dict[ComponentName, tuple[str, str]] = {
    "rms_norm": ("input", "attention_norm"),
    "attention": ("attention_norm", "attention_output"),
    "mlp": ("mlp_norm", "combined_output"),
    "block": ("input", "output"),
}
# The tensors that it needs, by the beginning of their names inside the layer.
COMPONENT_TENSORS: dict[ComponentName, str] = {
    "rms_norm": "input_layernorm.",
    "attention": "self_attn.",
    "mlp": "mlp.",
    "block": "",
}


def build_component_graph(
    op: GraphBuilder,
    config: GptOssConfig,
    parameters: Parameters,
    component: ComponentName,
    *,
    layer: int,
    recipe: Recipe | None = None,
) -> ir.Graph:
    """Builds the graph of one part; `op` is new, `parameters` makes its values with it.

    Inputs: `hidden_states` f32 [B, T, D]; for attention and block also `attention_mask` int64 [B, total]
    and `past_key_values.{layer}.key` and `.value`, as the whole model has them.
    Outputs: `output` f32 [B, T, D]; with a cache also `present.{layer}.key` and `.value`.
    """
    recipe = recipe or Recipe()
    report = Report(()).layer(layer)
    hidden = op.input("hidden_states", ir.DataType.FLOAT, "batch", "sequence", config.hidden_size)
    rows = hidden if recipe.is_by_sequence else op.reshape(hidden, -1, config.hidden_size, name="rows")
    inputs, outputs = [hidden], []
    if component == "rms_norm":
        output = rms_norm(op, rows, parameters.float32(f"model.layers.{layer}.input_layernorm.weight"))
    elif component == "mlp":
        with op.scope(f"model.layers.{layer}.mlp"):
            output = mlp(op, config, parameters, rows, layer=layer, recipe=recipe, report=report)
    else:
        mask = op.input("attention_mask", ir.DataType.INT64, "batch", "total")
        dtype = cache_dtype(recipe)
        past = cache_input(op, config, layer, dtype)
        inputs += [mask, past.key, past.value]
        if recipe.attention == "manual":
            window = past.key if config.is_sliding(layer) else None
            attend = manual_attention(op, config, parameters, token_ids=hidden, mask=mask, window_cache=window)
        else:
            attend = grouped_attention(
                op, config, parameters, token_ids=hidden, mask=mask, probes=(), dtype=dtype, recipe=recipe
            )
        present: LayerCache
        if component == "attention":
            with op.scope(f"model.layers.{layer}.self_attn"):
                output, present = attend(rows, layer=layer, past=past, report=report)
        else:
            stream, present = block(
                op,
                config,
                parameters,
                Residual(rows, recipe.has_fused_norms),
                layer=layer,
                past=past,
                attend=attend,
                recipe=recipe,
                report=report,
            )
            with op.scope(f"model.layers.{layer}"):
                output = stream.joined(op).rows
        outputs += cache_outputs(config, layer, present, dtype)
    shaped = op.reshape(output, op.size(hidden, 0), op.size(hidden, 1), config.hidden_size, name="outputs.output")
    final = as_output(shaped, "output", ir.DataType.FLOAT, "batch", "sequence", config.hidden_size)
    return op.graph(f"gpt_oss_{component}", inputs, [final, *outputs])
