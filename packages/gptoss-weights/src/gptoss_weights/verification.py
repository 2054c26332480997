"""verify_checkpoint: whether the weights themselves are sane, tensor by tensor.

Opening has held names, shapes and dtypes against the schema already. This reads on: every array
must be finite, and no MXFP4 scale may overflow (253 and 254 make infinities of the large codes, OCP
calls 255 NaN). Tensors are read in pieces of some rows, so memory stays flat.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from gptoss_weights.checkpoint import Checkpoint, StoredArray, StoredMxfp4
from gptoss_weights.errors import CheckpointError
from gptoss_weights.formats.safetensors_files import read_header
from gptoss_weights.mxfp4 import LARGEST_EXACT_SCALE, Mxfp4Tensor

__all__ = ["Finding", "find_corruption", "verify_checkpoint"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that no healthy checkpoint has: the tensor, where it stands if that is known, and what is wrong."""

    tensor: str
    file: Path | str | None
    problem: str
    raw_name: str | None = None  # of what stands in the file, if that is named otherwise

    def __str__(self) -> str:
        tensor = self.tensor if self.raw_name is None else f"{self.tensor} ({self.raw_name})"
        where = tensor if self.file is None else f"{self.file}: {tensor}"
        return f"{where}: {self.problem}"


def find_corruption(checkpoint: Checkpoint, names: Iterable[str] | None = None) -> Iterator[Finding]:
    """Reads tensors (all, or those named) and yields what is wrong with them as it is found."""
    for name in checkpoint if names is None else names:
        stored = checkpoint.stored(name)
        counts = _Counts()
        for start, tensor in checkpoint.pieces(name):
            if isinstance(tensor, Mxfp4Tensor):
                counts.add(start, tensor.scales, tensor.scales > LARGEST_EXACT_SCALE)
            else:
                with np.errstate(invalid="ignore"):  # older ml_dtypes warn of the very NaN that is looked for
                    counts.add(start, tensor, ~np.isfinite(tensor))
        if counts.first is None:
            continue
        if checkpoint.array_dtype(name) is None:
            file: Path | str | None = stored.scales.path if isinstance(stored, StoredMxfp4) else None
            what = f"MXFP4 scales are above {LARGEST_EXACT_SCALE} and overflow"
        else:
            file, what = next(iter(checkpoint.places(name)), None), "values are not finite"
        yield Finding(tensor=name, file=file, problem=counts.sentence(what), raw_name=_raw_name(name, stored))


def _raw_name(name: str, stored: StoredArray | StoredMxfp4 | None) -> str | None:
    """What a safetensors file calls the tensor, where that does not begin with the canonical name."""
    array = stored.scales if isinstance(stored, StoredMxfp4) else stored
    if array is None or array.path.suffix != ".safetensors":
        return None
    for raw, whole in read_header(array.path).items():
        if whole.offset <= array.offset < whole.offset + whole.nbytes:
            return None if raw.startswith(name) else raw
    return None


def verify_checkpoint(checkpoint: Checkpoint) -> None:
    """Reads every tensor and holds it to be sane.

    Raises:
        CheckpointError: values are not finite or scales overflow; all findings at once.
    """
    findings = [str(finding) for finding in find_corruption(checkpoint)]
    if findings:
        raise CheckpointError("; ".join(findings))


class _Counts:
    """How many elements of a tensor are suspect, and the first of them."""

    def __init__(self) -> None:
        self.first: str | None = None
        self._suspect = self._elements = 0

    def add(self, start: int, piece: np.ndarray, is_suspect: np.ndarray) -> None:
        """Counts a piece whose first row is `start`."""
        self._elements += piece.size
        count = int(np.count_nonzero(is_suspect))
        if not count:
            return
        self._suspect += count
        if self.first is None:
            row, *others = (int(i) for i in np.unravel_index(int(is_suspect.argmax()), piece.shape))
            self.first = f"{piece[row, *others]} at {[start + row, *others]}"

    def sentence(self, what: str) -> str:
        return f"{self._suspect} of {self._elements} {what}, the first is {self.first}"
