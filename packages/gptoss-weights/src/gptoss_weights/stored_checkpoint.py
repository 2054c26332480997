"""A checkpoint whose every tensor is a range of bytes of a file, read through memory maps."""

import functools
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from gptoss_weights.checkpoint import Checkpoint, Index, StoredArray, StoredMxfp4
from gptoss_weights.config import GptOssConfig
from gptoss_weights.fingerprints import fingerprint_of, identity_of_files
from gptoss_weights.mapped_file import MappedFile
from gptoss_weights.mxfp4 import Mxfp4Tensor

__all__ = ["StoredCheckpoint"]


class StoredCheckpoint(Checkpoint):
    """Reads tensors as views of memory-mapped files, one map a file, made when it is first needed.

    Args:
        config: The geometry.
        format: Name of the layout.
        side_files: File name → path.
        tensors: Canonical name → where its bytes stand; the caller has held them against the schema.
        transposed: Names of those whose last two axes stand swapped on disk.
    """

    def __init__(
        self,
        *,
        config: GptOssConfig,
        format: str,  # noqa: A002 - as the attribute of Checkpoint
        side_files: Mapping[str, Path],
        tensors: Mapping[str, StoredArray | StoredMxfp4],
        transposed: Collection[str] = (),
    ) -> None:
        self.config = config
        self.format = format
        self.side_files = side_files
        self._tensors = tensors
        self._transposed = frozenset(transposed)
        self._files = functools.cache(MappedFile)

    def stored(self, name: str) -> StoredArray | StoredMxfp4 | None:
        """Where the tensor's bytes stand on disk; None where they stand transposed."""
        stored = self._tensors[name]
        return None if name in self._transposed else stored

    def places(self, name: str) -> tuple[Path | str, ...]:
        """The files that hold some of a tensor, transposed or not."""
        return tuple(dict.fromkeys(half.path for half in _halves(self._tensors[name])))

    def read(self, name: str, index: Index = ()) -> np.ndarray | Mxfp4Tensor:
        """One tensor or a part of it; only the bytes that are then used are read from disk."""
        stored = self._tensors[name]
        if isinstance(stored, StoredMxfp4):
            packed = Mxfp4Tensor(self._view(stored.blocks), self._view(stored.scales))
            return packed[index] if index else packed
        array = self._view(stored)
        return (array.swapaxes(-1, -2) if name in self._transposed else array)[(*index, ...)]

    def array_dtype(self, name: str) -> np.dtype | None:
        """The dtype of an array; None where the tensor is packed as MXFP4."""
        stored = self._tensors[name]
        return stored.dtype if isinstance(stored, StoredArray) else None

    def fingerprint(self) -> str:
        """Changes with the config, with where tensors stand, and with their files."""
        arrays = [half for stored in self._tensors.values() for half in _halves(stored)]
        places = [(str(array.path.absolute()), array.offset, array.dtype.name, array.shape) for array in arrays]
        files = identity_of_files({array.path for array in arrays})
        return fingerprint_of(self.format, self.config, places, files)

    def _view(self, stored: StoredArray) -> np.ndarray:
        return self._files(stored.path).view(stored)


def _halves(stored: StoredArray | StoredMxfp4) -> tuple[StoredArray, ...]:
    return (stored.blocks, stored.scales) if isinstance(stored, StoredMxfp4) else (stored,)
