"""The experts in one operator of ONNX Runtime: QMoE where they are quantised, MoE where they are f32.

Both choose by the router's logits, weigh by a softmax over the chosen (that is what their
normalisation of the routing weights comes to), and compute the limited SwiGLU inside.
"""

import numpy as np
from gptoss_weights import MXFP4_BLOCK_SIZE, SWIGLU_ALPHA, GptOssConfig

from gptoss_onnx import ir
from gptoss_onnx.graph.builder import MICROSOFT, GraphBuilder
from gptoss_onnx.graph.parameters import Int8Experts, Parameters
from gptoss_onnx.recipe import Recipe

__all__ = ["fused_experts"]

ABSENT_INPUTS = 7  # of QMoE: a third matrix with scales and bias, three of zero points, router weights
INTERLEAVED = 1  # gate and up in turns, as canonical


def fused_experts(
    op: GraphBuilder,
    config: GptOssConfig,
    parameters: Parameters,
    x: ir.Value,
    router_logits: ir.Value,
    *,
    layer: int,
    recipe: Recipe,
) -> ir.Value:
    """The weighted sum of each row's experts. x f32 [rows, D] or [B, T, D], router_logits f32 [rows, E] → as x.

    On CUDA the operator computes in f16, its input and the router's logits included.

    Source: openai/gpt-oss torch/model.py, `MLPBlock`.
    """
    name = f"model.layers.{layer}.mlp.experts"
    biases = [parameters.float32(f"{name}.{part}_bias") for part in ("gate_up_proj", "down_proj")]
    attributes = {
        "k": config.experts_per_token,
        "activation_type": "swiglu",
        "swiglu_fusion": INTERLEAVED,
        "swiglu_limit": float(config.swiglu_limit),
        "activation_alpha": SWIGLU_ALPHA,
        "activation_beta": 1.0,
        "normalize_routing_weights": 1,
    }
    if recipe.profile == "cuda":
        half = [op.Cast(value, to=ir.DataType.FLOAT16) for value in (x, router_logits, *biases)]
        matrices = [parameters.fp4_experts(f"{name}.{part}") for part in ("gate_up_proj", "down_proj")]
        ones = op.constant(np.ones(config.num_experts), np.float32, name="global_scales")
        packed = [value for m, bias in zip(matrices, half[2:], strict=True) for value in (m.codes, m.scales, bias)]
        attributes |= {"expert_weight_bits": 4, "block_size": MXFP4_BLOCK_SIZE, "quant_type": "fp4"}
        nothing = (None,) * ABSENT_INPUTS
        computed = op.QMoE(*half[:2], *packed, *nothing, ones, ones, name="experts", domain=MICROSOFT, **attributes)
        return op.Cast(computed, to=ir.DataType.FLOAT)
    gate_up, down = (parameters.experts(f"{name}.{part}") for part in ("gate_up_proj", "down_proj"))
    if isinstance(gate_up, Int8Experts) and isinstance(down, Int8Experts):
        inputs = (gate_up.codes, gate_up.scales, biases[0], down.codes, down.scales, biases[1])
        attributes |= {"expert_weight_bits": 8, "block_size": MXFP4_BLOCK_SIZE}
        return op.QMoE(x, router_logits, *inputs, name="experts", domain=MICROSOFT, **attributes)
    assert isinstance(gate_up, ir.Value)
    assert isinstance(down, ir.Value)  # both matrices of a layer have one form
    return op.MoE(x, router_logits, gate_up, biases[0], down, biases[1], name="experts", domain=MICROSOFT, **attributes)
