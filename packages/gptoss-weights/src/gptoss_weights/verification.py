"""verify_checkpoint: whether the weights themselves are sane, tensor by tensor.

Opening has held names, shapes and dtypes against the schema already. This reads on: every array
must be finite, and no MXFP4 scale may overflow (253 and 254 make infinities of the large codes, OCP
calls 255 NaN). Tensors are read in pieces, so memory stays flat.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from gptoss_weights.checkpoint import Checkpoint, StoredMxfp4
from gptoss_weights.errors import CheckpointError
from gptoss_weights.mxfp4 import LARGEST_EXACT_SCALE, Mxfp4Tensor
from gptoss_weights.summary import tensor_path

__all__ = ["Finding", "find_corruption", "verify_checkpoint"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that no healthy checkpoint has: the tensor, its file if it has one, and what is wrong."""

    tensor: str
    file: Path | None
    problem: str

    def __str__(self) -> str:
        where = self.tensor if self.file is None else f"{self.file}: {self.tensor}"
        return f"{where}: {self.problem}"


def find_corruption(checkpoint: Checkpoint, names: Iterable[str] | None = None) -> Iterator[Finding]:
    """Reads tensors (all, or those named) and yields what is wrong with them as it is found."""
    for name in checkpoint if names is None else names:
        problem = _problem(checkpoint, name)
        if problem is not None:
            stored = checkpoint.stored(name)
            file = stored.scales.path if isinstance(stored, StoredMxfp4) else tensor_path(stored)
            yield Finding(tensor=name, file=file, problem=problem)


def verify_checkpoint(checkpoint: Checkpoint) -> None:
    """Reads every tensor and holds it to be sane.

    Raises:
        CheckpointError: values are not finite or scales overflow; all findings at once.
    """
    findings = [str(finding) for finding in find_corruption(checkpoint)]
    if findings:
        raise CheckpointError("; ".join(findings))


def _problem(checkpoint: Checkpoint, name: str) -> str | None:
    """What is wrong with a tensor, if anything."""
    what, size, count, first = "", 0, 0, ""
    for start, piece in checkpoint.pieces(name):
        if isinstance(piece, Mxfp4Tensor):
            what = f"MXFP4 scales are above {LARGEST_EXACT_SCALE} and overflow"
            array, is_wrong = piece.scales, piece.scales > LARGEST_EXACT_SCALE
        else:
            what = "values are not finite"
            array, is_wrong = piece, ~np.isfinite(piece)
        if not count and is_wrong.any():
            position = [int(i) for i in np.unravel_index(is_wrong.argmax(), array.shape)]
            first = f"{array[*position]} at {[start + position[0], *position[1:]]}"
        count += int(np.count_nonzero(is_wrong))
        size += array.size
    return f"{count} of {size} {what}, the first is {first}" if count else None
