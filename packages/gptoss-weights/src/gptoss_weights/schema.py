"""The schema: every parameter of GPT-OSS, stated once.

Names are Hugging Face's, with one exception that makes them independent of quantisation: the expert
matrices are `…experts.gate_up_proj` and `…experts.down_proj`, shape [E, out, in], gate and up
interleaved (gate in the even rows). Every format, the NNX tree, the ONNX initialisers and the
goldens are mappings from these names; none repeats a shape.

Axis letters, the same everywhere: B batch, T query, S key, D hidden, N heads, K kv heads, H head
dim, E experts, F ffn, V vocab, L layers. An axis that is a product is written so: `NH`, `2F`.
"""

import dataclasses
from collections.abc import Mapping

from gptoss_weights.config import GptOssConfig

__all__ = ["TensorSpec", "axis_sizes", "count_active_parameters", "count_parameters", "tensor_specs"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One parameter: canonical name, axes as letters, shape.

    `is_expert_matrix` marks the two that are stored as MXFP4; `layer` is None outside the layers.
    """

    name: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    layer: int | None = None
    is_expert_matrix: bool = False

    @property
    def size(self) -> int:
        """Number of parameters."""
        size = 1
        for extent in self.shape:
            size *= extent
        return size


# Inside `model.layers.{i}.`, in the order of the forward pass.
_LAYER_AXES: Mapping[str, tuple[str, ...]] = {
    "input_layernorm.weight": ("D",),
    "self_attn.q_proj.weight": ("NH", "D"),
    "self_attn.q_proj.bias": ("NH",),
    "self_attn.k_proj.weight": ("KH", "D"),
    "self_attn.k_proj.bias": ("KH",),
    "self_attn.v_proj.weight": ("KH", "D"),
    "self_attn.v_proj.bias": ("KH",),
    "self_attn.sinks": ("N",),
    "self_attn.o_proj.weight": ("D", "NH"),
    "self_attn.o_proj.bias": ("D",),
    "post_attention_layernorm.weight": ("D",),
    "mlp.router.weight": ("E", "D"),
    "mlp.router.bias": ("E",),
    "mlp.experts.gate_up_proj": ("E", "2F", "D"),
    "mlp.experts.gate_up_proj_bias": ("E", "2F"),
    "mlp.experts.down_proj": ("E", "D", "F"),
    "mlp.experts.down_proj_bias": ("E", "D"),
}
_EXPERT_MATRICES = ("mlp.experts.gate_up_proj", "mlp.experts.down_proj")


def axis_sizes(config: GptOssConfig) -> dict[str, int]:
    """Extent of every axis letter that a parameter has."""
    return {
        "D": config.hidden_size,
        "N": config.num_attention_heads,
        "NH": config.q_size,
        "KH": config.kv_size,
        "E": config.num_experts,
        "F": config.intermediate_size,
        "2F": 2 * config.intermediate_size,
        "V": config.vocab_size,
    }


def tensor_specs(config: GptOssConfig) -> dict[str, TensorSpec]:
    """All parameters by canonical name, in the order of the forward pass."""
    sizes = axis_sizes(config)

    def spec(name: str, axes: tuple[str, ...], layer: int | None = None) -> TensorSpec:
        return TensorSpec(
            name=name,
            axes=axes,
            shape=tuple(sizes[axis] for axis in axes),
            layer=layer,
            is_expert_matrix=name.endswith(_EXPERT_MATRICES),
        )

    specs = [spec("model.embed_tokens.weight", ("V", "D"))]
    for layer in range(config.num_hidden_layers):
        for suffix, axes in _LAYER_AXES.items():
            specs.append(spec(f"model.layers.{layer}.{suffix}", axes, layer))
    specs += [spec("model.norm.weight", ("D",)), spec("lm_head.weight", ("V", "D"))]
    return {s.name: s for s in specs}


def count_parameters(config: GptOssConfig) -> int:
    """All parameters; 20 914 757 184 for gpt-oss-20b."""
    return sum(spec.size for spec in tensor_specs(config).values())


def count_active_parameters(config: GptOssConfig) -> int:
    """Parameters that one token multiplies: its experts only, and of the embedding one row."""
    total = 0
    for spec in tensor_specs(config).values():
        if spec.axes[0] == "E" and ".experts." in spec.name:
            total += spec.size // config.num_experts * config.experts_per_token
        elif spec.name == "model.embed_tokens.weight":
            total += config.hidden_size
        else:
            total += spec.size
    return total
