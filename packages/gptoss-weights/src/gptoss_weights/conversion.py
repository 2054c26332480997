"""convert_checkpoint: views and saving put together, with a report of what encoding changed."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import DTypeLike

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.formats.names import FormatName
from gptoss_weights.formats.registry import format_named
from gptoss_weights.mxfp4_encoding import ScaleRule
from gptoss_weights.saving import plan_save
from gptoss_weights.views import QuantizationError, QuantizedCheckpoint, quantized, trimmed

__all__ = ["Conversion", "convert_checkpoint", "plan_conversion"]


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What a conversion writes, or has written.

    Attributes:
        format: The format of the target.
        files: Path of each file (of an array in a folder of its own: of that) → its size in bytes; the
            manifest, which comes last, is not among them.
        side_files: Names of the files that travel along.
        quantization: Name → error, of each tensor that this run has encoded; after an interruption,
            of that part of it which was left.
    """

    format: FormatName
    files: Mapping[str, int]
    side_files: tuple[str, ...]
    quantization: Mapping[str, QuantizationError]

    @property
    def nbytes(self) -> int:
        """Bytes of all files but those that travel along."""
        return sum(self.files.values())

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON document."""
        return {
            "format": self.format,
            "bytes": self.nbytes,
            "files": dict(self.files),
            "side_files": list(self.side_files),
            "quantization": {
                name: {"relative_l2": error.relative_l2, "max_abs": error.max_abs, "values": error.values}
                for name, error in self.quantization.items()
            },
        }


def convert_checkpoint(
    checkpoint: Checkpoint,
    path: Path | str,
    *,
    format: FormatName,  # noqa: A002 - as the attribute of Checkpoint
    dtype: DTypeLike = "bfloat16",
    layers: int | None = None,
    experts: int | None = None,
    scale: ScaleRule = "mse",
    max_shard_bytes: int | None = None,
    durable: bool = True,
    progress: Callable[[int], object] = lambda _: None,
) -> Conversion:
    """Writes a checkpoint in any format: trimmed, rounded, decoded or encoded as that takes.

    Args:
        checkpoint: What to convert.
        path: As in `save_checkpoint`.
        format: The format to write.
        dtype: Of the plain arrays: bfloat16, float16 or float32, as far as the format has it.
        layers: How many layers to keep; all by default.
        experts: How many experts to keep; all by default.
        scale: How scales are chosen where plain experts have to be packed.
        max_shard_bytes: Most tensor bytes in one safetensors file; by default as published.
        durable: Wait until the disk has everything before it is moved into place.
        progress: Called with the number of bytes after each piece.

    Raises:
        ValueError: arguments that do not fit the checkpoint or the format.
        CheckpointError, NotEnoughSpaceError, MissingDependencyError: as `save_checkpoint`.
    """
    view = _view(checkpoint, format, layers=layers, experts=experts, scale=scale)
    plan = plan_save(view, path, format=format, dtype=dtype, max_shard_bytes=max_shard_bytes)
    plan.carry_out(durable=durable, progress=progress)
    errors = view.errors if isinstance(view, QuantizedCheckpoint) else {}
    return Conversion(format, plan.output.sizes, tuple(sorted(view.side_files)), errors)


def plan_conversion(
    checkpoint: Checkpoint,
    path: Path | str,
    *,
    format: FormatName,  # noqa: A002 - as the attribute of Checkpoint
    dtype: DTypeLike = "bfloat16",
    layers: int | None = None,
    experts: int | None = None,
    scale: ScaleRule = "mse",
    max_shard_bytes: int | None = None,
) -> Conversion:
    """What `convert_checkpoint` would write, without writing it.

    Raises:
        ValueError, CheckpointError, MissingDependencyError: as `convert_checkpoint`, as far as it is
            known before anything is written.
    """
    view = _view(checkpoint, format, layers=layers, experts=experts, scale=scale)
    plan = plan_save(view, path, format=format, dtype=dtype, max_shard_bytes=max_shard_bytes)
    return Conversion(format, plan.output.sizes, tuple(sorted(view.side_files)), {})


def _view(
    checkpoint: Checkpoint, format_name: FormatName, *, layers: int | None, experts: int | None, scale: ScaleRule
) -> Checkpoint:
    view = trimmed(checkpoint, layers=layers, experts=experts)
    return quantized(view, scale=scale) if format_named(format_name).is_packed else view
