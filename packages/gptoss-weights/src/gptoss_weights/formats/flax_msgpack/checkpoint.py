"""Reads canonical parameters out of the leaves of a Flax tree, lazily.

Where flax left a leaf whole, what comes back is a view of the file: of a fused leaf a part, of a
kernel transposed. Of a leaf that it cut, only the part that was asked for is put together, so that
slices along either axis of a matrix cost no more memory than they have bytes.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gptoss_weights.checkpoint import Checkpoint, Index
from gptoss_weights.config import GptOssConfig
from gptoss_weights.fingerprints import fingerprint_of, identity_of_files
from gptoss_weights.formats.flax_msgpack.index import IndexedArray
from gptoss_weights.formats.flax_msgpack.rows import LeafRows
from gptoss_weights.formats.flax_msgpack.tree import FlaxLeaf, TreePath
from gptoss_weights.mapped_file import MappedFile

__all__ = ["FlaxCheckpoint"]


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where a parameter begins in a leaf: along the first axis, or along the last one of a kernel."""

    rows: LeafRows
    start: int
    is_kernel: bool


class FlaxCheckpoint(Checkpoint):
    """A checkpoint in a `.msgpack` file.

    `stored` finds nothing in place: leaves begin at odd bytes, and many are transposed or cut.

    Args:
        config: The geometry.
        side_files: File name → path.
        path: The file.
        leaves: Every leaf of the geometry.
        arrays: Path in the tree → where the leaf stands; the caller has held them against `leaves`.
    """

    format = "flax"

    def __init__(
        self,
        *,
        config: GptOssConfig,
        side_files: Mapping[str, Path],
        path: Path,
        leaves: Mapping[TreePath, FlaxLeaf],
        arrays: Mapping[TreePath, IndexedArray],
    ) -> None:
        self.config = config
        self.side_files = side_files
        self._path = path
        self._places: dict[str, _Place] = {}
        file = MappedFile(path)
        for leaf in leaves.values():
            rows = LeafRows(file, arrays[leaf.path])
            start = 0
            for spec in leaf.specs:
                self._places[spec.name] = _Place(rows, start, leaf.is_kernel)
                start += spec.shape[0]

    def places(self, name: str) -> tuple[Path | str, ...]:
        """The file."""
        if name not in self._places:
            raise KeyError(name)
        return (self._path,)

    def read(self, name: str, index: Index = ()) -> np.ndarray:
        """One tensor or a part of it: a view where that lies in one piece, otherwise a copy."""
        place, shape = self._places[name], self.specs[name].shape
        start, stop, rest = _span(index[0] if index else slice(None), shape[0])
        start, stop = place.start + start, place.start + stop
        if not place.is_kernel:
            return place.rows.read(start, stop)[(rest, *index[1:], ...)]
        first, last, others = _span(index[1] if len(index) > 1 else slice(None), shape[1])
        return place.rows.read_transposed(first, last, slice(start, stop))[(rest, others, *index[2:], ...)]

    def fingerprint(self) -> str:
        """Changes with the config and with the file."""
        return fingerprint_of(self.format, self.config, identity_of_files([self._path]))


def _span(item: int | slice, extent: int) -> tuple[int, int, int | slice]:
    """The range along an axis that an index needs, and the index within that range."""
    if not isinstance(item, slice):
        position = range(extent)[item]  # negative ones count from the end; IndexError past it
        return position, position + 1, 0
    start, stop, step = item.indices(extent)
    if step != 1:
        return 0, extent, item
    return start, max(start, stop), slice(None)
