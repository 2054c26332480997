"""Which way round plain expert matrices stand: formats differ, and some tools forget it.

Hugging Face and MaxText have inputs before outputs, [E, in, out]; the Flax bundle has [E, out, in], as
packed experts do. Nothing in a file says so. What can be known, in this order:

- Of Hugging Face: `quantization_config` in the config says that the experts are packed; if they are
  not, somebody decoded them and forgot the config, which transformers then takes at its word.
- Shapes tell unless a matrix is square. `gate_up_proj` is not, unless D = 2F (or, cut into gate and
  up as in MaxText's tree, D = F); `down_proj` is at the published sizes, where D = F.
- Values tell of a square matrix if they were decoded from MXFP4 and not trained since: every 32
  values along the input axis share a scale, along the other axis they do not. A sample of blocks
  that fits only along the wrong axis is proof.

A square matrix that was trained in bfloat16 and stands the wrong way round cannot be told from one
that stands right, nor can those outside the experts, which never were MXFP4; comparing logits with a
source is then the only way.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from gptoss_weights.checkpoint import Checkpoint, Index, StoredArray
from gptoss_weights.config import GptOssConfig
from gptoss_weights.errors import CheckpointError
from gptoss_weights.formats.layouts import Layout
from gptoss_weights.mxfp4 import MXFP4_BLOCK_SIZE
from gptoss_weights.mxfp4_encoding import encode_mxfp4

__all__ = [
    "SquareSample",
    "is_transposed_mxfp4",
    "refuse_leftover_quantization",
    "refuse_transposed",
    "refuse_transposed_squares",
    "square_samples",
    "untransposed_experts",
]

_SAMPLED_OUTPUTS = 4 * MXFP4_BLOCK_SIZE  # of one expert, times one block of inputs: 8 KiB of a layer


@dataclasses.dataclass(frozen=True)
class SquareSample:
    """A part of a canonical matrix that shows which way round it stands, and its axes in the file, right and wrong."""

    index: Index
    right: str
    wrong: str


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


def square_samples(
    config: GptOssConfig, *, inputs_first: bool, splits_gate_and_up: bool = False
) -> dict[str, list[SquareSample]]:
    """Canonical name → samples of the expert matrices whose shape tells nothing; of three layers, no more.

    Args:
        config: The geometry.
        inputs_first: Whether the format has them as [E, in, out].
        splits_gate_and_up: Whether gate and up are matrices of their own.
    """
    D, F = config.hidden_size, config.intermediate_size
    columns = slice(0, MXFP4_BLOCK_SIZE)
    found: dict[str, list[SquareSample]] = {}

    def sample(suffix: str, rows: slice, axes: str) -> None:
        axes_in_file = (axes[::-1], axes) if inputs_first else (axes, axes[::-1])
        last = config.num_hidden_layers - 1
        for layer in sorted({0, last // 2, last}):
            name = f"model.layers.{layer}.mlp.experts.{suffix}"
            found.setdefault(name, []).append(SquareSample((0, rows, columns), *axes_in_file))

    if D == F:
        sample("down_proj", slice(0, _SAMPLED_OUTPUTS), "DF")
    if splits_gate_and_up and D == F:
        for half in range(2):
            sample("gate_up_proj", slice(half, 2 * _SAMPLED_OUTPUTS, 2), "FD")
    elif not splits_gate_and_up and D == 2 * F:
        sample("gate_up_proj", slice(0, _SAMPLED_OUTPUTS), "GD")
    return found


def refuse_transposed(where: str, samples: Iterable[SquareSample], read: Callable[[Index], np.ndarray]) -> None:
    """Refuses a square matrix whose values show that it stands the wrong way round.

    Args:
        where: The matrix, for the error.
        samples: What to look at, a few KiB each.
        read: Index into the canonical tensor → its values.

    Raises:
        CheckpointError: a sample fits MXFP4 along its output axis only.
    """
    for sample in samples:
        if is_transposed_mxfp4(read(sample.index)):
            raise CheckpointError(
                "the matrix stands the wrong way round: its values share their MXFP4 scales along the wrong axis",
                where=where,
                expected=_shown_axes(sample.right),
                found=_shown_axes(sample.wrong),
                fix="Convert it again from the packed checkpoint.",
            )


def refuse_transposed_squares(where: object, checkpoint: Checkpoint, *, inputs_first: bool) -> None:
    """`refuse_transposed` of all matrices of a checkpoint whose samples cost next to nothing to read.

    Raises:
        CheckpointError: a square matrix stands the wrong way round.
    """
    for name, samples in square_samples(checkpoint.config, inputs_first=inputs_first).items():
        refuse_transposed(f"{where}: {name}", samples, functools.partial(checkpoint.read_array, name))


def _shown_axes(axes: str) -> str:
    """Axes of one expert as users know them: G is what gate and up have together, 2F."""
    return f"[E, {', '.join(axes).replace('G', '2F')}]"


def is_transposed_mxfp4(sample: np.ndarray) -> bool:
    """Whether values [out, in], both multiples of 32, fit MXFP4 along their first axis and not along their last."""
    return not _fits_mxfp4(sample) and _fits_mxfp4(np.ascontiguousarray(sample.T))


def _fits_mxfp4(values: np.ndarray) -> bool:
    if not np.isfinite(values).all():
        return False
    exact = values.astype(np.float32)
    return np.array_equal(encode_mxfp4(exact).decode(np.float32), exact)
