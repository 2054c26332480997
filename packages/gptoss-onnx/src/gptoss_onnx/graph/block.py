"""One layer: attention and experts, each on the normalised residual stream and added to it."""

from collections.abc import Callable

import onnx_ir as ir
from gptoss_weights import GptOssConfig, layer_probe

from gptoss_onnx.graph.attention import LayerCache, attention
from gptoss_onnx.graph.builder import GraphBuilder
from gptoss_onnx.graph.experts import experts
from gptoss_onnx.graph.linear import linear
from gptoss_onnx.graph.parameters import Parameters
from gptoss_onnx.graph.rms_norm import rms_norm
from gptoss_onnx.graph.rope import Rotation
from gptoss_onnx.graph.routing import route_tokens
from gptoss_onnx.graph.visibility import Visibility

__all__ = ["block"]

type Report = Callable[[str, ir.Value], None]


def block(
    op: GraphBuilder,
    config: GptOssConfig,
    parameters: Parameters,
    x: ir.Value,
    *,
    layer: int,
    past: LayerCache,
    visibility: Visibility,
    rotation: Rotation,
    report: Report,
) -> tuple[ir.Value, LayerCache]:
    """Layer `layer` over the residual stream x f32 [B·T, D]; `report` is told every probe by name.

    Source: openai/gpt-oss torch/model.py, `TransformerBlock`.
    """
    name = f"model.layers.{layer}"
    with op.scope(name):
        with op.scope("input_layernorm"):
            normed = rms_norm(op, x, parameters.float32(f"{name}.input_layernorm.weight"))
        with op.scope("self_attn"):
            attended, present = attention(
                op, config, parameters, normed, layer=layer, past=past, visibility=visibility, rotation=rotation
            )
        x = op.Add(x, attended, name="attention_residual")
        report(layer_probe(layer, "attention_residual"), x)

        with op.scope("post_attention_layernorm"):
            normed = rms_norm(op, x, parameters.float32(f"{name}.post_attention_layernorm.weight"))
        with op.scope("mlp"):
            router_logits = linear(op, parameters, normed, f"{name}.mlp.router")
            routing = route_tokens(op, router_logits, experts_per_token=config.experts_per_token)
            combined = experts(op, config, parameters, normed, routing, layer=layer)
        x = op.Add(x, combined, name="output")
        report(layer_probe(layer, "router_logits"), router_logits)
        report(layer_probe(layer, "router_indices"), routing.indices)
        report(layer_probe(layer, "router_weights"), routing.weights)
        report(layer_probe(layer, "output"), x)
    return x, present
