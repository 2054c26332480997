"""What every view shares: a checkpoint around another, the same but for what it overrides."""

import numpy as np

from gptoss_weights.checkpoint import Checkpoint, Index, StoredArray, StoredMxfp4
from gptoss_weights.fingerprints import fingerprint_of
from gptoss_weights.mxfp4 import Mxfp4Tensor

__all__ = ["View"]


class View(Checkpoint):
    """Passes everything on to the checkpoint `source`.

    Args:
        source: The checkpoint inside.
        parameters: Whatever of this view's own decides what it gives; part of its fingerprint.
    """

    def __init__(self, source: Checkpoint, *parameters: object) -> None:
        self.config = source.config
        self.format = source.format
        self.side_files = source.side_files
        self.source = source
        self._parameters = parameters

    def read(self, name: str, index: Index = ()) -> np.ndarray | Mxfp4Tensor:
        """One tensor or a part of it."""
        return self.source.read(name, index)

    def stored(self, name: str) -> StoredArray | StoredMxfp4 | None:
        """Where the tensor's bytes stand on disk, if this view leaves them as they are."""
        return self.source.stored(name)

    def array_dtype(self, name: str) -> np.dtype | None:
        """The dtype in which `read` gives a tensor, or None where it is packed as MXFP4."""
        return self.source.array_dtype(name)

    def fingerprint(self) -> str | None:
        """The source's, if it has one, and this view's parameters."""
        inner = self.source.fingerprint()
        return None if inner is None else fingerprint_of(type(self).__name__, self.config, inner, self._parameters)
