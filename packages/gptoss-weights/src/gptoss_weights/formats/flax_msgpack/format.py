"""The format `flax`: one `.msgpack` file, with its config beside it."""

from typing import override

import numpy as np

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.config import GptOssConfig
from gptoss_weights.formats.base import Format
from gptoss_weights.formats.flax_msgpack.writing import check_flax_dtype, flax_output
from gptoss_weights.output.pieces import Output

__all__ = ["FlaxFormat"]


class FlaxFormat(Format):
    """The staged bundle of the jax2onnx workflow."""

    name = "flax"
    is_packed = False
    suffix = ".msgpack"

    @override
    def check(self, config: GptOssConfig, dtype: np.dtype) -> None:
        """Refuses a dtype that the tree cannot have."""
        check_flax_dtype(dtype.name)

    @override
    def output(
        self, checkpoint: Checkpoint, *, target_name: str, dtype: np.dtype, max_shard_bytes: int | None
    ) -> Output:
        """The file and its config."""
        if max_shard_bytes is not None:
            raise ValueError("a Flax bundle is one file; it has no shards to limit")
        return flax_output(checkpoint, target_name, dtype=dtype)
