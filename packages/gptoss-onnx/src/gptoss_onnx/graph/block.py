"""One layer: attention and experts, each on the normalised residual stream and added to it."""

from gptoss_weights import GptOssConfig

from gptoss_onnx import ir
from gptoss_onnx.graph.attending import Attend
from gptoss_onnx.graph.attention import LayerCache
from gptoss_onnx.graph.builder import GraphBuilder
from gptoss_onnx.graph.experts import experts
from gptoss_onnx.graph.fused_experts import fused_experts
from gptoss_onnx.graph.linear import linear
from gptoss_onnx.graph.parameters import Parameters
from gptoss_onnx.graph.reporting import LayerReport
from gptoss_onnx.graph.residual import Residual
from gptoss_onnx.graph.routing import route_tokens
from gptoss_onnx.recipe import Recipe

__all__ = ["EXPERT_PROBES", "block", "mlp"]

EXPERT_PROBES = ("pre_activation", "activated", "expert_outputs")  # what a fused operator does not give out


def block(
    op: GraphBuilder,
    config: GptOssConfig,
    parameters: Parameters,
    x: Residual,
    *,
    layer: int,
    past: LayerCache | None,
    attend: Attend,
    recipe: Recipe,
    report: LayerReport,
) -> tuple[Residual, LayerCache]:
    """Layer `layer` over the residual stream x f32 [B·T, D], or [B, T, D] by recipe; `report` is handed its probes.

    Source: openai/gpt-oss torch/model.py, `TransformerBlock`.
    """
    name = f"model.layers.{layer}"
    with op.scope(name):
        with op.scope("input_layernorm"):
            normed, x = x.normed(op, parameters.float32(f"{name}.input_layernorm.weight"))
        report("attention_norm", normed)
        with op.scope("self_attn"):
            attended, present = attend(normed, layer=layer, past=past, report=report)
        report("attention_output", attended)
        x = x.plus(op, attended, name="attention_residual")
        with op.scope("post_attention_layernorm"):
            normed, x = x.normed(op, parameters.float32(f"{name}.post_attention_layernorm.weight"))
        report("attention_residual", x.rows)
        report("mlp_norm", normed)
        with op.scope("mlp"):
            combined = mlp(op, config, parameters, normed, layer=layer, recipe=recipe, report=report)
        x = x.plus(op, combined, name="output")
        if report.wants("output"):
            x = x.joined(op)
            report("output", x.rows)
    return x, present


def mlp(
    op: GraphBuilder,
    config: GptOssConfig,
    parameters: Parameters,
    x: ir.Value,
    *,
    layer: int,
    recipe: Recipe,
    report: LayerReport,
) -> ir.Value:
    """Router and experts of one layer over normalised rows x f32 [rows, D], or [B, T, D] by recipe → as x."""
    is_fused = recipe.has_fused_experts
    rows = op.reshape(x, -1, config.hidden_size) if recipe.is_by_sequence else x
    router_logits = linear(op, parameters, rows, f"model.layers.{layer}.mlp.router")
    report("router_logits", router_logits)
    wants_inside = any(report.wants(probe) for probe in EXPERT_PROBES)
    if not is_fused or wants_inside or report.wants("router_indices") or report.wants("router_weights"):
        routing = route_tokens(op, router_logits, experts_per_token=config.experts_per_token)
        report("router_indices", routing.indices)
        report("router_weights", routing.weights)
        if not is_fused or wants_inside:
            # Beside a fused operator this computes everything a second time, for the probes alone.
            is_static = recipe.static is not None
            combined = experts(op, config, parameters, rows, routing, layer=layer, is_static=is_static, report=report)
    if is_fused:
        combined = fused_experts(op, config, parameters, x, router_logits, layer=layer, recipe=recipe)
    report("combined_output", combined)
    return combined
