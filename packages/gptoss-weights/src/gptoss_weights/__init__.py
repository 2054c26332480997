"""Reads and writes GPT-OSS checkpoints, with neither JAX nor PyTorch.

    checkpoint = open_checkpoint("gpt-oss-20b/original")
    checkpoint.config.num_hidden_layers
    checkpoint.read("model.layers.3.mlp.experts.down_proj", (7,))  # one expert, still packed
    save_checkpoint(checkpoint, "gpt-oss-20b-hf", format="hf")
    save_checkpoint(trimmed(checkpoint, layers=2), "two-layers.msgpack", format="flax")

Further modules: `testing` (tiny checkpoints), `cli_errors` (exit codes of every command line),
`text` (the tokenizer, and `text.harmony`, the chat format; extra `[text]`), `demo` (a small checkpoint that
comes with the package).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gptoss_weights.checkpoint import Checkpoint, Index, StoredArray, StoredMxfp4
    from gptoss_weights.comparison import CheckpointComparison, TensorDifference, compare_checkpoints
    from gptoss_weights.config import GPT_OSS_20B, GPT_OSS_120B, RMS_NORM_EPS, SWIGLU_ALPHA, GptOssConfig
    from gptoss_weights.conversion import Conversion, convert_checkpoint, plan_conversion
    from gptoss_weights.doctor import Diagnosis, diagnose
    from gptoss_weights.errors import (
        CheckpointError,
        ConversationError,
        GptOssError,
        GptOssWarning,
        MissingDependencyError,
        NetworkError,
        NotEnoughSpaceError,
        NotUnicodeError,
        ParityError,
    )
    from gptoss_weights.formats.names import FORMAT_NAMES, FormatName
    from gptoss_weights.manifest import Manifest, VerificationReport, read_manifest, verify_artefact, write_manifest
    from gptoss_weights.mxfp4 import FP4_VALUES, MXFP4_BLOCK_SIZE, Mxfp4Tensor, decode_mxfp4
    from gptoss_weights.mxfp4_encoding import ScaleRule, encode_mxfp4
    from gptoss_weights.opening import open_checkpoint
    from gptoss_weights.probes import BLOCK_DEBUG_PROBES, LAYER_PROBES, ProbeSpec, layer_probe, probe_specs
    from gptoss_weights.random_weights import random_checkpoint
    from gptoss_weights.saving import save_checkpoint
    from gptoss_weights.schema import TensorSpec, axis_sizes, count_active_parameters, count_parameters, tensor_specs
    from gptoss_weights.summary import CheckpointSummary, TensorSummary, summarize
    from gptoss_weights.verification import Finding, find_corruption, verify_checkpoint
    from gptoss_weights.views import QuantizationError, cast, dequantized, quantized, trimmed
    from gptoss_weights.yarn import inverse_frequencies, rope_concentration, yarn_ramp

__all__ = [
    "BLOCK_DEBUG_PROBES",
    "FORMAT_NAMES",
    "FP4_VALUES",
    "GPT_OSS_20B",
    "GPT_OSS_120B",
    "LAYER_PROBES",
    "MXFP4_BLOCK_SIZE",
    "RMS_NORM_EPS",
    "SWIGLU_ALPHA",
    "Checkpoint",
    "CheckpointComparison",
    "CheckpointError",
    "CheckpointSummary",
    "ConversationError",
    "Conversion",
    "Diagnosis",
    "Finding",
    "FormatName",
    "GptOssConfig",
    "GptOssError",
    "GptOssWarning",
    "Index",
    "Manifest",
    "MissingDependencyError",
    "Mxfp4Tensor",
    "NetworkError",
    "NotEnoughSpaceError",
    "NotUnicodeError",
    "ParityError",
    "ProbeSpec",
    "QuantizationError",
    "ScaleRule",
    "StoredArray",
    "StoredMxfp4",
    "TensorDifference",
    "TensorSpec",
    "TensorSummary",
    "VerificationReport",
    "axis_sizes",
    "cast",
    "compare_checkpoints",
    "convert_checkpoint",
    "count_active_parameters",
    "count_parameters",
    "decode_mxfp4",
    "dequantized",
    "diagnose",
    "encode_mxfp4",
    "find_corruption",
    "inverse_frequencies",
    "layer_probe",
    "open_checkpoint",
    "plan_conversion",
    "probe_specs",
    "quantized",
    "random_checkpoint",
    "read_manifest",
    "rope_concentration",
    "save_checkpoint",
    "summarize",
    "tensor_specs",
    "trimmed",
    "verify_artefact",
    "verify_checkpoint",
    "write_manifest",
    "yarn_ramp",
]

# Module → its public names; imported when one is first asked for, since NumPy alone takes a quarter of a second.
_CONTENTS = {
    "checkpoint": "Checkpoint Index StoredArray StoredMxfp4",
    "comparison": "CheckpointComparison TensorDifference compare_checkpoints",
    "config": "GPT_OSS_20B GPT_OSS_120B RMS_NORM_EPS SWIGLU_ALPHA GptOssConfig",
    "doctor": "Diagnosis diagnose",
    "errors": "CheckpointError ConversationError GptOssError GptOssWarning MissingDependencyError NetworkError"
    " NotEnoughSpaceError NotUnicodeError ParityError",
    "manifest": "Manifest VerificationReport read_manifest verify_artefact write_manifest",
    "conversion": "Conversion convert_checkpoint plan_conversion",
    "formats.names": "FORMAT_NAMES FormatName",
    "mxfp4": "FP4_VALUES MXFP4_BLOCK_SIZE Mxfp4Tensor decode_mxfp4",
    "mxfp4_encoding": "ScaleRule encode_mxfp4",
    "opening": "open_checkpoint",
    "probes": "BLOCK_DEBUG_PROBES LAYER_PROBES ProbeSpec layer_probe probe_specs",
    "random_weights": "random_checkpoint",
    "saving": "save_checkpoint",
    "schema": "TensorSpec axis_sizes count_active_parameters count_parameters tensor_specs",
    "summary": "CheckpointSummary TensorSummary summarize",
    "verification": "Finding find_corruption verify_checkpoint",
    "views": "QuantizationError cast dequantized quantized trimmed",
    "yarn": "inverse_frequencies rope_concentration yarn_ramp",
}
_MODULE_OF = {name: module for module, names in _CONTENTS.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
