"""Run by MaxText's own Python: restores a tree, saves it again, and writes the logits of its forward pass.

Usage: `python theirs.py CONFIG.json TREE TOKENS.npy OUTPUT [scanned]`. Writes OUTPUT/logits.npy and
the tree OUTPUT/saved, as MaxText saves parameters. Float32 throughout, on the CPU.

Source: maxtext 0.2.5, utils/model_creation_utils.py and checkpoint_conversion/utils/utils.py.
"""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import maxtext
import numpy as np
from flax import nnx
from maxtext.checkpoint_conversion.utils.utils import save_weights_to_checkpoint
from maxtext.configs import pyconfig
from maxtext.utils.model_creation_utils import from_pretrained


def main() -> None:
    config_file, tree, tokens_file, output = map(Path, sys.argv[1:5])
    is_scanned = sys.argv[5:] == ["scanned"]
    geometry, tokens = json.loads(config_file.read_text()), np.load(tokens_file)
    options = {
        "model_name": "gpt-oss-20b",
        "override_model_config": True,
        "run_name": "parity",
        "base_output_directory": output,
        "load_parameters_path": tree,
        "convert_checkpoint_if_possible": False,
        "enable_checkpointing": True,
        "hardware": "cpu",
        "skip_jax_distributed_system": True,
        "base_num_decoder_layers": geometry["num_hidden_layers"],
        "base_emb_dim": geometry["hidden_size"],
        "base_mlp_dim": geometry["intermediate_size"],
        "base_moe_mlp_dim": geometry["intermediate_size"],
        "base_num_query_heads": geometry["num_attention_heads"],
        "base_num_kv_heads": geometry["num_key_value_heads"],
        "head_dim": geometry["head_dim"],
        "sliding_window_size": geometry["sliding_window"],
        "num_experts": geometry["num_experts"],
        "num_experts_per_tok": geometry["experts_per_token"],
        "vocab_size": geometry["vocab_size"],
        "scan_layers": is_scanned,
        "weight_dtype": "float32",
        "dtype": "float32",
        "matmul_precision": "highest",
        "attention": "dot_product",
        "sparse_matmul": False,
        "megablox": False,
        "dataset_type": "synthetic",
        "per_device_batch_size": 1,
        "max_target_length": tokens.shape[1],
    }
    base = Path(maxtext.__file__).parent / "configs" / "base.yml"
    config = pyconfig.initialize(["", str(base), *(f"{name}={value}" for name, value in options.items())])
    model, mesh = from_pretrained(config)
    positions = jnp.arange(tokens.shape[1])[None]
    with jax.set_mesh(mesh):
        logits = model(
            decoder_input_tokens=jnp.asarray(tokens),
            decoder_positions=positions,
            decoder_segment_ids=jnp.ones_like(positions),
            enable_dropout=False,
        )
    np.save(output / "logits.npy", np.asarray(logits, np.float32))
    parameters = nnx.split_state(nnx.state(model), nnx.Param, ...)[0].to_pure_dict()
    save_weights_to_checkpoint(str(output / "saved"), parameters, 1, use_ocdbt=True, use_zarr3=True)


if __name__ == "__main__":
    main()
