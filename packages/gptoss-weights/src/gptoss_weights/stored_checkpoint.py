"""A checkpoint whose every tensor is a range of bytes of a file, read through memory maps."""

import functools
import mmap
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gptoss_weights.checkpoint import Checkpoint, Index, StoredArray, StoredMxfp4
from gptoss_weights.config import GptOssConfig
from gptoss_weights.mxfp4 import Mxfp4Tensor

__all__ = ["StoredCheckpoint"]


class StoredCheckpoint(Checkpoint):
    """Reads tensors as views of memory-mapped files, one map a file, made when it is first needed.

    Args:
        config: The geometry.
        format: Name of the layout.
        side_files: File name → path.
        tensors: Canonical name → where its bytes stand; the caller has held them against the schema.
    """

    def __init__(
        self,
        *,
        config: GptOssConfig,
        format: str,  # noqa: A002 - as the attribute of Checkpoint
        side_files: Mapping[str, Path],
        tensors: Mapping[str, StoredArray | StoredMxfp4],
    ) -> None:
        self.config = config
        self.format = format
        self.side_files = side_files
        self._tensors = tensors
        self._maps = functools.cache(_map_file)

    def stored(self, name: str) -> StoredArray | StoredMxfp4:
        """Where the tensor's bytes stand on disk."""
        return self._tensors[name]

    def read(self, name: str, index: Index = ()) -> np.ndarray | Mxfp4Tensor:
        """One tensor or a part of it; only the bytes that are then used are read from disk."""
        stored = self._tensors[name]
        if isinstance(stored, StoredMxfp4):
            packed = Mxfp4Tensor(self._view(stored.blocks), self._view(stored.scales))
            return packed[index] if index else packed
        return self._view(stored)[(*index, ...)]

    def _view(self, stored: StoredArray) -> np.ndarray:
        count = stored.nbytes // stored.dtype.itemsize
        flat = np.frombuffer(self._maps(stored.path), stored.dtype, count, stored.offset)
        return flat.reshape(stored.shape)


def _map_file(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
