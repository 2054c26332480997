"""verify_checkpoint: whether the weights themselves are sane, tensor by tensor.

Opening has held names, shapes and dtypes against the schema already. This reads on: every array
must be finite, and no MXFP4 scale may overflow (253 and 254 make infinities of the large codes, OCP
calls 255 NaN). Arrays are read in pieces through the memory map, so memory stays flat.
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

_PIECE_VALUES = 1 << 22  # 8 MiB of bfloat16


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
        stored = checkpoint.stored(name)
        tensor = checkpoint.read(name)
        if isinstance(tensor, Mxfp4Tensor):
            file = stored.scales.path if isinstance(stored, StoredMxfp4) else None
            problem = _scale_problem(tensor.scales)
        else:
            file = tensor_path(stored)
            problem = _finiteness_problem(tensor)
        if problem is not None:
            yield Finding(tensor=name, file=file, problem=problem)


def verify_checkpoint(checkpoint: Checkpoint) -> None:
    """Reads every tensor and holds it to be sane.

    Raises:
        CheckpointError: values are not finite or scales overflow; all findings at once.
    """
    findings = [str(finding) for finding in find_corruption(checkpoint)]
    if findings:
        raise CheckpointError("; ".join(findings))


def _scale_problem(scales: np.ndarray) -> str | None:
    suspect = scales > LARGEST_EXACT_SCALE
    count = int(np.count_nonzero(suspect))
    if not count:
        return None
    first = _position(int(suspect.argmax()), scales.shape)
    return (
        f"{count} of {scales.size} MXFP4 scales are above {LARGEST_EXACT_SCALE} and overflow, "
        f"the first is {scales[first]} at {list(first)}"
    )


def _finiteness_problem(array: np.ndarray) -> str | None:
    flat = array.reshape(-1)
    count, first = 0, None
    for start in range(0, flat.size, _PIECE_VALUES):
        infinite = ~np.isfinite(flat[start : start + _PIECE_VALUES])
        found = int(np.count_nonzero(infinite))
        if found and first is None:
            first = start + int(infinite.argmax())
        count += found
    if first is None:
        return None
    position = _position(first, array.shape)
    return f"{count} of {flat.size} values are not finite, the first is {array[position]} at {list(position)}"


def _position(flat_index: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(flat_index, shape))
