"""Makes the two bundles of this folder with flax.serialization itself (0.12.12, JAX 0.12.0).

    python make.py

Leaves are those of `random_checkpoint(config, seed=0)`, keys in the order in which the loader of the
jax2onnx workflow fills its tree, config beside it under either name that its tools use.
`whole` is bfloat16; `cut` is float32 with flax's chunk limit set to 1000 bytes.
"""

import json
from pathlib import Path
from typing import Any

import flax.serialization
import numpy as np
from gptoss_weights import GptOssConfig, Mxfp4Tensor, random_checkpoint
from gptoss_weights.testing import tiny_config

CONFIG = tiny_config(
    num_hidden_layers=1,
    num_experts=2,
    experts_per_token=1,
    vocab_size=7,
    hidden_size=64,
    intermediate_size=32,
    head_dim=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    rope_scaling_factor=1.0,
)


def parameter_tree(config: GptOssConfig, dtype: Any) -> dict[str, Any]:
    """The tree as the workflow's loader fills it, written out leaf by leaf."""
    checkpoint = random_checkpoint(config, seed=0)

    def read(name: str) -> np.ndarray:
        tensor = checkpoint.read(name)
        return tensor.decode(dtype) if isinstance(tensor, Mxfp4Tensor) else tensor.astype(dtype)

    def block(layer: str) -> dict[str, Any]:
        qkv = [f"{layer}.self_attn.{part}_proj" for part in "qkv"]
        attention = {
            "norm": {"scale": read(f"{layer}.input_layernorm.weight")},
            "qkv": {
                "kernel": np.concatenate([read(f"{part}.weight") for part in qkv]).T.copy(),
                "bias": np.concatenate([read(f"{part}.bias") for part in qkv]),
            },
            "sinks": read(f"{layer}.self_attn.sinks"),
            "out": {
                "kernel": read(f"{layer}.self_attn.o_proj.weight").T.copy(),
                "bias": read(f"{layer}.self_attn.o_proj.bias"),
            },
        }
        mlp = {
            "norm": {"scale": read(f"{layer}.post_attention_layernorm.weight")},
            "gate": {
                "kernel": read(f"{layer}.mlp.router.weight").T.copy(),
                "bias": read(f"{layer}.mlp.router.bias"),
            },
            "mlp1_weight": read(f"{layer}.mlp.experts.gate_up_proj"),
            "mlp1_bias": read(f"{layer}.mlp.experts.gate_up_proj_bias"),
            "mlp2_weight": read(f"{layer}.mlp.experts.down_proj"),
            "mlp2_bias": read(f"{layer}.mlp.experts.down_proj_bias"),
        }
        return {"attn": attention, "mlp": mlp}

    return {
        "embedding": {"embedding": read("model.embed_tokens.weight")},
        **{f"block_{i}": block(f"model.layers.{i}") for i in range(config.num_hidden_layers)},
        "norm": {"scale": read("model.norm.weight")},
        "unembedding": {"kernel": read("lm_head.weight").T.copy()},
    }


def main() -> None:
    folder = Path(__file__).parent
    config = json.dumps(CONFIG.to_openai(), indent=2, sort_keys=True)
    (folder / "whole.msgpack").write_bytes(flax.serialization.to_bytes(parameter_tree(CONFIG, "bfloat16")))
    (folder / "whole.config.json").write_text(config)
    flax.serialization.MAX_CHUNK_SIZE = 1000
    (folder / "cut.msgpack").write_bytes(flax.serialization.to_bytes(parameter_tree(CONFIG, "float32")))
    (folder / "cut.msgpack.config.json").write_text(config)


if __name__ == "__main__":
    main()
