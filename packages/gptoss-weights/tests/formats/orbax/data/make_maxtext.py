"""The recipe of `maxtext-scanned/` and `maxtext-unscanned/`: MaxText's own model, written by MaxText itself.

    python -m venv maxtext && maxtext/bin/pip install maxtext==0.2.5 ...   # on a CPU, with what its imports ask for
    JAX_PLATFORMS=cpu maxtext/bin/python make_maxtext.py

Names, shapes and dtypes of the leaves come from MaxText's model, values from `leaf_values`, so that a
test can say what stands where without MaxText. bfloat16 weights, float32 layer norms: as MaxText
trains with weight_dtype=bfloat16. One step, `0`, with the item `items`, in OCDBT and zarr 3.
"""

import json
import zlib
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
CONFIG = {
    "num_hidden_layers": 4,
    "num_experts": 3,
    "experts_per_token": 2,
    "vocab_size": 37,
    "hidden_size": 64,
    "intermediate_size": 32,
    "swiglu_limit": 7.0,
    "head_dim": 18,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "sliding_window": 11,
    "initial_context_length": 4096,
    "rope_theta": 150000,
    "rope_scaling_factor": 32.0,
    "rope_ntk_alpha": 1,
    "rope_ntk_beta": 32,
}


def leaf_values(path: str, shape: tuple[int, ...]) -> np.ndarray:
    """Whole numbers that bfloat16 holds, another sequence for each leaf."""
    return ((np.arange(np.prod(shape)) * 7 + zlib.crc32(path.encode())) % 251 - 125).reshape(shape).astype(np.float32)


def main() -> None:
    import jax.numpy as jnp
    import maxtext
    from flax import nnx
    from maxtext.checkpoint_conversion.utils.utils import save_weights_to_checkpoint
    from maxtext.configs import pyconfig
    from maxtext.utils.model_creation_utils import create_nnx_abstract_model

    base = Path(maxtext.__file__).parent / "configs" / "base.yml"
    for is_scanned, folder in ((True, "maxtext-scanned"), (False, "maxtext-unscanned")):
        options = {
            "model_name": "gpt-oss-20b",
            "override_model_config": True,
            "run_name": folder,
            "hardware": "cpu",
            "skip_jax_distributed_system": True,
            "base_num_decoder_layers": CONFIG["num_hidden_layers"],
            "base_emb_dim": CONFIG["hidden_size"],
            "base_mlp_dim": CONFIG["intermediate_size"],
            "base_moe_mlp_dim": CONFIG["intermediate_size"],
            "base_num_query_heads": CONFIG["num_attention_heads"],
            "base_num_kv_heads": CONFIG["num_key_value_heads"],
            "head_dim": CONFIG["head_dim"],
            "sliding_window_size": CONFIG["sliding_window"],
            "num_experts": CONFIG["num_experts"],
            "num_experts_per_tok": CONFIG["experts_per_token"],
            "vocab_size": CONFIG["vocab_size"],
            "scan_layers": is_scanned,
            "weight_dtype": "bfloat16",
            "attention": "dot_product",
            "sparse_matmul": False,
            "megablox": False,
            "enable_checkpointing": False,
            "dataset_type": "synthetic",
        }
        config = pyconfig.initialize(["", str(base), *(f"{name}={value}" for name, value in options.items())])
        _, model = create_nnx_abstract_model(config, None)
        tree = nnx.split_state(nnx.state(model), nnx.Param, ...)[0].to_pure_dict()

        def filled(node: object, path: str = "") -> object:
            if isinstance(node, dict):
                return {key: filled(child, f"{path}/{key}".lstrip("/")) for key, child in node.items()}
            return jnp.asarray(leaf_values(path, node.shape), node.dtype)

        save_weights_to_checkpoint(str(HERE / folder), filled(tree), 1, use_ocdbt=True, use_zarr3=True)
        for marker in (HERE / folder).rglob("commit_success.txt"):
            marker.write_text("Checkpoint commit was successful")  # without the path of this machine
        (HERE / folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")


if __name__ == "__main__":
    main()
