"""One layer: attention and experts, each on the normalised residual stream and added to it."""

import onnx_ir as ir
from gptoss_weights import GptOssConfig

from gptoss_onnx.graph.attention import LayerCache, attention
from gptoss_onnx.graph.builder import GraphBuilder
from gptoss_onnx.graph.experts import experts
from gptoss_onnx.graph.linear import linear
from gptoss_onnx.graph.parameters import Parameters
from gptoss_onnx.graph.reporting import LayerReport
from gptoss_onnx.graph.rms_norm import rms_norm
from gptoss_onnx.graph.rope import Rotation
from gptoss_onnx.graph.routing import route_tokens
from gptoss_onnx.graph.visibility import Visibility

__all__ = ["block"]


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
    report: LayerReport,
) -> tuple[ir.Value, LayerCache]:
    """Layer `layer` over the residual stream x f32 [B·T, D]; `report` is handed its probes.

    Source: openai/gpt-oss torch/model.py, `TransformerBlock`.
    """
    name = f"model.layers.{layer}"
    with op.scope(name):
        with op.scope("input_layernorm"):
            normed = rms_norm(op, x, parameters.float32(f"{name}.input_layernorm.weight"))
        report("attention_norm", normed)
        with op.scope("self_attn"):
            attended, present = attention(
                op,
                config,
                parameters,
                normed,
                layer=layer,
                past=past,
                visibility=visibility,
                rotation=rotation,
                report=report,
            )
        report("attention_output", attended)
        x = op.Add(x, attended, name="attention_residual")
        report("attention_residual", x)

        with op.scope("post_attention_layernorm"):
            normed = rms_norm(op, x, parameters.float32(f"{name}.post_attention_layernorm.weight"))
        report("mlp_norm", normed)
        with op.scope("mlp"):
            router_logits = linear(op, parameters, normed, f"{name}.mlp.router")
            routing = route_tokens(op, router_logits, experts_per_token=config.experts_per_token)
            report("router_logits", router_logits)
            report("router_indices", routing.indices)
            report("router_weights", routing.weights)
            combined = experts(op, config, parameters, normed, routing, layer=layer, report=report)
        report("combined_output", combined)
        x = op.Add(x, combined, name="output")
        report("output", x)
    return x, present
