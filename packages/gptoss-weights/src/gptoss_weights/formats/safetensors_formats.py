"""The formats that are folders of safetensors files: one for each layout."""

from typing import override

import numpy as np

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.config import GptOssConfig
from gptoss_weights.formats.base import Format
from gptoss_weights.formats.layouts import Layout
from gptoss_weights.formats.safetensors_writer import safetensors_output
from gptoss_weights.output.pieces import Output

__all__ = ["SafetensorsFormat"]


class SafetensorsFormat(Format):
    """A folder of safetensors files in one layout."""

    def __init__(self, layout: Layout) -> None:
        self.name, self.is_packed = layout.name, layout.is_packed
        self._layout = layout

    @override
    def check(self, config: GptOssConfig, dtype: np.dtype) -> None:
        """Refuses a dtype that the layout does not know."""
        if dtype not in self._layout.array_dtypes:
            known = ", ".join(known.name for known in self._layout.array_dtypes)
            raise ValueError(f"{self.name} holds plain arrays in {known}, not {dtype.name}")

    @override
    def output(
        self, checkpoint: Checkpoint, *, target_name: str, dtype: np.dtype, max_shard_bytes: int | None
    ) -> Output:
        """Config, weights and index."""
        return safetensors_output(checkpoint, self._layout, dtype=dtype, max_shard_bytes=max_shard_bytes)
