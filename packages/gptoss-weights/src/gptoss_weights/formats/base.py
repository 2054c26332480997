"""What a format is: a name, what it can hold, and a checkpoint taken apart into pieces to write."""

import abc
from typing import ClassVar

import numpy as np

from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.config import GptOssConfig
from gptoss_weights.output.pieces import Output

__all__ = ["Format"]


class Format(abc.ABC):
    """One way to lay a checkpoint out on disk.

    Attributes:
        name: What `Checkpoint.format`, `save_checkpoint(format=…)` and `convert --to` say.
        is_packed: Whether its experts are MXFP4.
        suffix: What the name of a target ends with if that is a file; empty if it is a folder.
    """

    name: str
    is_packed: bool
    suffix: ClassVar[str] = ""

    @abc.abstractmethod
    def check(self, config: GptOssConfig, dtype: np.dtype) -> None:
        """Refuses what the format cannot hold.

        Raises:
            ValueError: plain arrays of this dtype.
            CheckpointError: this geometry.
        """

    @abc.abstractmethod
    def output(
        self, checkpoint: Checkpoint, *, target_name: str, dtype: np.dtype, max_shard_bytes: int | None
    ) -> Output:
        """A checkpoint in pieces.

        Args:
            checkpoint: Its experts packed or plain as `is_packed` says, its plain arrays of `dtype`.
            target_name: Name of the file or folder that is made.
            dtype: What `check` let pass.
            max_shard_bytes: Most tensor bytes in a file, for formats of several files.

        Raises:
            ValueError: the limit is not positive, or the format has no such limit.
        """
