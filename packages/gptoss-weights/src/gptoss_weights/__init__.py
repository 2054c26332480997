"""Reads and writes GPT-OSS checkpoints, with neither JAX nor PyTorch.

    checkpoint = open_checkpoint("gpt-oss-20b/original")
    checkpoint.config.num_hidden_layers
    checkpoint.read("model.layers.3.mlp.experts.down_proj", (7,))  # one expert, still packed
    save_checkpoint(checkpoint, "gpt-oss-20b-hf", format="hf")

Further modules: `testing` (tiny checkpoints), `cli_errors` (exit codes of every command line),
`text` (the tokenizer, extra `[text]`), `demo` (a small checkpoint that comes with the package).
"""

from gptoss_weights.checkpoint import Checkpoint, Index, StoredArray, StoredMxfp4
from gptoss_weights.config import GPT_OSS_20B, GPT_OSS_120B, RMS_NORM_EPS, SWIGLU_ALPHA, GptOssConfig
from gptoss_weights.errors import (
    CheckpointError,
    GptOssError,
    GptOssWarning,
    MissingDependencyError,
    NetworkError,
    NotEnoughSpaceError,
    ParityError,
)
from gptoss_weights.mxfp4 import FP4_VALUES, MXFP4_BLOCK_SIZE, Mxfp4Tensor, decode_mxfp4, encode_mxfp4
from gptoss_weights.opening import open_checkpoint
from gptoss_weights.probes import LAYER_PROBES, ProbeSpec, layer_probe, probe_specs
from gptoss_weights.random_weights import random_checkpoint
from gptoss_weights.saving import save_checkpoint
from gptoss_weights.schema import TensorSpec, axis_sizes, count_active_parameters, count_parameters, tensor_specs
from gptoss_weights.yarn import inverse_frequencies, rope_concentration, yarn_ramp

__all__ = [
    "FP4_VALUES",
    "GPT_OSS_20B",
    "GPT_OSS_120B",
    "LAYER_PROBES",
    "MXFP4_BLOCK_SIZE",
    "RMS_NORM_EPS",
    "SWIGLU_ALPHA",
    "Checkpoint",
    "CheckpointError",
    "GptOssConfig",
    "GptOssError",
    "GptOssWarning",
    "Index",
    "MissingDependencyError",
    "Mxfp4Tensor",
    "NetworkError",
    "NotEnoughSpaceError",
    "ParityError",
    "ProbeSpec",
    "StoredArray",
    "StoredMxfp4",
    "TensorSpec",
    "axis_sizes",
    "count_active_parameters",
    "count_parameters",
    "decode_mxfp4",
    "encode_mxfp4",
    "inverse_frequencies",
    "layer_probe",
    "open_checkpoint",
    "probe_specs",
    "random_checkpoint",
    "rope_concentration",
    "save_checkpoint",
    "tensor_specs",
    "yarn_ramp",
]
