"""OpenAI's layout, the published `original/` folder: fused qkv, `block.N.…` names.

One `model.safetensors` (20b) or `model--0000i-of-0000n.safetensors` with an index (120b), a flat
`config.json`, and `dtypes.json`.
"""

from collections.abc import Mapping

from gptoss_weights.config import GptOssConfig
from gptoss_weights.formats.raw_tensors import RawTensor, raw_tensor, split_mxfp4
from gptoss_weights.schema import tensor_specs

__all__ = ["is_openai_name", "openai_dtypes", "openai_tensors"]

# Raw name inside `block.{i}.` → canonical names inside `model.layers.{i}.`, in the order of dtypes.json.
_LAYER: Mapping[str, tuple[str, ...]] = {
    "attn.norm.scale": ("input_layernorm.weight",),
    "attn.qkv.weight": ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"),
    "attn.qkv.bias": ("self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"),
    "attn.sinks": ("self_attn.sinks",),
    "attn.out.weight": ("self_attn.o_proj.weight",),
    "attn.out.bias": ("self_attn.o_proj.bias",),
    "mlp.norm.scale": ("post_attention_layernorm.weight",),
    "mlp.gate.weight": ("mlp.router.weight",),
    "mlp.gate.bias": ("mlp.router.bias",),
    "mlp.mlp1_weight": ("mlp.experts.gate_up_proj",),
    "mlp.mlp1_bias": ("mlp.experts.gate_up_proj_bias",),
    "mlp.mlp2_weight": ("mlp.experts.down_proj",),
    "mlp.mlp2_bias": ("mlp.experts.down_proj_bias",),
}
_EMBEDDING = {"embedding.weight": "model.embed_tokens.weight"}
_HEAD = {"norm.scale": "model.norm.weight", "unembedding.weight": "lm_head.weight"}
_DTYPE_WORDS = {"array": "BF16", "blocks": "FP4", "scales": "UE8"}


def is_openai_name(raw_name: str) -> bool:
    """Whether a raw tensor name is one of this layout's."""
    return raw_name.startswith("block.") or raw_name in _EMBEDDING or raw_name in _HEAD


def openai_tensors(config: GptOssConfig) -> list[RawTensor]:
    """Every tensor of the layout, in the order of `dtypes.json`."""
    specs = tensor_specs(config)
    tensors = [raw_tensor(name, [specs[canonical]]) for name, canonical in _EMBEDDING.items()]
    for layer in range(config.num_hidden_layers):
        for suffix, canonical_suffixes in _LAYER.items():
            name = f"block.{layer}.{suffix}"
            parts = [specs[f"model.layers.{layer}.{canonical}"] for canonical in canonical_suffixes]
            if parts[0].is_expert_matrix:
                tensors += split_mxfp4(f"{name}.blocks", f"{name}.scales", parts[0])
            else:
                tensors.append(raw_tensor(name, parts))
    return tensors + [raw_tensor(name, [specs[canonical]]) for name, canonical in _HEAD.items()]


def openai_dtypes(config: GptOssConfig) -> dict[str, str]:
    """The content of `dtypes.json`: raw name → BF16, FP4 or UE8."""
    return {tensor.name: _DTYPE_WORDS[tensor.parts[0].half] for tensor in openai_tensors(config)}
