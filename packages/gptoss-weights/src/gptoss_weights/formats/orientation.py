"""Which way round plain expert matrices stand: Hugging Face's are transposed, and some tools forget it.

Nothing in a file says so. What can be known, in this order:

- `quantization_config` in the config says that the experts are packed; if they are not, somebody
  decoded them and forgot the config, which transformers then takes at its word.
- Shapes tell unless a matrix is square. `gate_up_proj` is not, unless D = 2F; `down_proj` is at
  the published sizes, where D = F.
- Values tell of a square matrix if they were decoded from MXFP4 and not trained since: every 32
  values along the input axis share a scale, along the other axis they do not. A sample of blocks
  that fits only along the wrong axis is proof.

A square `down_proj` that was trained in bfloat16 and stands the wrong way round cannot be told from
one that stands right; comparing logits with a source is then the only way.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gptoss_weights.checkpoint import Checkpoint, StoredArray
from gptoss_weights.config import GptOssConfig
from gptoss_weights.errors import CheckpointError
from gptoss_weights.formats.layouts import Layout
from gptoss_weights.mxfp4 import MXFP4_BLOCK_SIZE
from gptoss_weights.mxfp4_encoding import encode_mxfp4

__all__ = ["is_transposed_mxfp4", "refuse_leftover_quantization", "refuse_transposed_squares", "untransposed_experts"]

_SAMPLED_OUTPUTS = 4 * MXFP4_BLOCK_SIZE  # of one expert, times one block of inputs: 8 KiB of a layer
_SAMPLED_LAYERS = 3  # the first, one in the middle, the last


def refuse_leftover_quantization(path: Path, config: GptOssConfig) -> None:
    """Refuses a config that announces packed experts beside plain ones.

    Raises:
        CheckpointError: it has a `quantization_config`.
    """
    if config.document.get("quantization_config") is not None:
        raise CheckpointError(
            "quantization_config says that the experts are packed, but they are plain matrices",
            where=path,
            expected="no quantization_config",
            fix="Remove it from the config (transformers could not load this folder either), or give another "
            "config with --config.",
        )


def untransposed_experts(
    folder: Path, layout: Layout, config: GptOssConfig, found: Mapping[str, StoredArray]
) -> list[str]:
    """One sentence if expert matrices stand as [E, out, in] in a layout that has them transposed."""
    turned = [
        raw
        for raw in layout.tensors(config)
        if raw.parts[0].is_transposed
        and raw.name in found
        and found[raw.name].shape != raw.shape
        and found[raw.name].shape == raw.parts[0].spec.shape
    ]
    if not turned:
        return []
    first = turned[0]
    return [
        f"{folder}: {len(turned)} expert matrices are not transposed, as plain ones are in Hugging Face's layout: "
        f"{first.name} is {list(found[first.name].shape)}, not {list(first.shape)}"
    ]


def refuse_transposed_squares(folder: Path, checkpoint: Checkpoint) -> None:
    """Refuses square `down_proj` matrices whose values show that they stand the wrong way round.

    Reads a few KiB, and only if D = F.

    Raises:
        CheckpointError: a sample fits MXFP4 along its output axis only.
    """
    config = checkpoint.config
    if config.hidden_size != config.intermediate_size:
        return
    last = config.num_hidden_layers - 1
    for layer in sorted({0, last // 2, last})[:_SAMPLED_LAYERS]:
        name = f"model.layers.{layer}.mlp.experts.down_proj"
        sample = checkpoint.read_array(name, (0, slice(0, _SAMPLED_OUTPUTS), slice(0, MXFP4_BLOCK_SIZE)))
        if is_transposed_mxfp4(sample):
            raise CheckpointError(
                "the matrix stands the wrong way round: its values share their MXFP4 scales along the wrong axis",
                where=f"{folder}: {name}",
                expected="[E, F, D], as transformers saves it",
                found="[E, D, F]",
                fix="Convert it again from the packed checkpoint.",
            )


def is_transposed_mxfp4(sample: np.ndarray) -> bool:
    """Whether values [out, in], both multiples of 32, fit MXFP4 along their first axis and not along their last."""
    return not _fits_mxfp4(sample) and _fits_mxfp4(np.ascontiguousarray(sample.T))


def _fits_mxfp4(values: np.ndarray) -> bool:
    if not np.isfinite(values).all():
        return False
    exact = values.astype(np.float32)
    return np.array_equal(encode_mxfp4(exact).decode(np.float32), exact)
