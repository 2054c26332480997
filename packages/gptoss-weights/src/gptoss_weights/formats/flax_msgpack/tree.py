"""Which leaf of the Flax tree is which parameter.

Leaves are called as in OpenAI's `original/`, qkv fused, with two differences: what Flax calls a
kernel is transposed, [in, out], and the experts' matrices stand decoded, [E, out, in] as everywhere.

Source: enpasos/jax2onnx scripts/export_flax_gpt_oss_to_onnx.py, `_load_model_params`.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from gptoss_weights.config import GptOssConfig
from gptoss_weights.schema import TensorSpec, tensor_specs

__all__ = ["LAYER_PREFIX", "FlaxLeaf", "TreePath", "flax_config_path", "flax_leaves"]

type TreePath = tuple[str, ...]

LAYER_PREFIX = "block_"  # of the keys of layers at the root of the tree

# Path inside `block_{i}` → canonical names inside `model.layers.{i}.`.
_LAYER: Mapping[TreePath, tuple[str, ...]] = {
    ("attn", "norm", "scale"): ("input_layernorm.weight",),
    ("attn", "qkv", "kernel"): ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"),
    ("attn", "qkv", "bias"): ("self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"),
    ("attn", "sinks"): ("self_attn.sinks",),
    ("attn", "out", "kernel"): ("self_attn.o_proj.weight",),
    ("attn", "out", "bias"): ("self_attn.o_proj.bias",),
    ("mlp", "norm", "scale"): ("post_attention_layernorm.weight",),
    ("mlp", "gate", "kernel"): ("mlp.router.weight",),
    ("mlp", "gate", "bias"): ("mlp.router.bias",),
    ("mlp", "mlp1_weight"): ("mlp.experts.gate_up_proj",),
    ("mlp", "mlp1_bias"): ("mlp.experts.gate_up_proj_bias",),
    ("mlp", "mlp2_weight"): ("mlp.experts.down_proj",),
    ("mlp", "mlp2_bias"): ("mlp.experts.down_proj_bias",),
}
_ENDS: Mapping[TreePath, str] = {
    ("embedding", "embedding"): "model.embed_tokens.weight",
    ("norm", "scale"): "model.norm.weight",
    ("unembedding", "kernel"): "lm_head.weight",
}


@dataclasses.dataclass(frozen=True)
class FlaxLeaf:
    """A leaf and the canonical parameters in it, one after the other along their first axis."""

    path: TreePath
    specs: tuple[TensorSpec, ...]

    @property
    def is_kernel(self) -> bool:
        """Whether it is stored transposed, [in, out]."""
        return self.path[-1] == "kernel"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in the file."""
        rows = sum(spec.shape[0] for spec in self.specs)
        rest = self.specs[0].shape[1:]
        return (*rest, rows) if self.is_kernel else (rows, *rest)


def flax_leaves(config: GptOssConfig) -> dict[TreePath, FlaxLeaf]:
    """Every leaf of a geometry by its path."""
    specs = tensor_specs(config)
    leaves = [FlaxLeaf(path, (specs[name],)) for path, name in _ENDS.items()]
    for layer in range(config.num_hidden_layers):
        for path, suffixes in _LAYER.items():
            parts = tuple(specs[f"model.layers.{layer}.{suffix}"] for suffix in suffixes)
            leaves.append(FlaxLeaf((f"{LAYER_PREFIX}{layer}", *path), parts))
    return {leaf.path: leaf for leaf in leaves}


def flax_config_path(path: Path) -> Path:
    """Where the config of a bundle stands: `<stem>.config.json`."""
    return path.with_suffix(".config.json")
