"""The formats `orbax-scanned` and `orbax-unscanned`: MaxText's trees in a folder."""

from typing import override

import numpy as np

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.config import GptOssConfig
from gptoss_weights.formats.base import Format
from gptoss_weights.formats.orbax.tree import orbax_leaves
from gptoss_weights.formats.orbax.writer import LEAF_DTYPES, orbax_output
from gptoss_weights.output.pieces import Output

__all__ = ["OrbaxFormat"]


class OrbaxFormat(Format):
    """A folder of zarr arrays that MaxText restores."""

    is_packed = False

    def __init__(self, *, is_scanned: bool) -> None:
        self.name = "orbax-scanned" if is_scanned else "orbax-unscanned"
        self.is_scanned = is_scanned

    @override
    def check(self, config: GptOssConfig, dtype: np.dtype) -> None:
        """Refuses other dtypes than MaxText's, and an odd number of layers to scan."""
        if dtype not in LEAF_DTYPES:
            known = " or ".join(known.name for known in LEAF_DTYPES)
            raise ValueError(f"{self.name} holds arrays in {known}, not {dtype.name}")
        orbax_leaves(config, is_scanned=self.is_scanned)

    @override
    def output(
        self, checkpoint: Checkpoint, *, target_name: str, dtype: np.dtype, max_shard_bytes: int | None
    ) -> Output:
        """The arrays, each with its neighbours of the same tensor, then what makes them a checkpoint."""
        if max_shard_bytes is not None:
            raise ValueError("an Orbax tree has a folder for each array; it has no shards to limit")
        return orbax_output(checkpoint, is_scanned=self.is_scanned, dtype=dtype)
