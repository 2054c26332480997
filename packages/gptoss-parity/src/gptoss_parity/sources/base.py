"""The one thing that every source does, and what all of them write into their traces."""

import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Protocol, get_args

import numpy as np
from gptoss_weights.checkpoint import Checkpoint
from gptoss_weights.errors import CheckpointError

from gptoss_parity.trace import Trace, TraceMetadata

__all__ = ["DTYPES", "Dtype", "Source", "check_tokens", "metadata_of"]

type Dtype = Literal["float32", "bfloat16"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype.__value__)


class Source(Protocol):
    """An implementation of GPT-OSS, or a file of what one computed."""

    @property
    def name(self) -> str:
        """What traces and reports call it."""

    def record(self, checkpoint: Checkpoint, tokens: Sequence[int], *, dtype: Dtype = "float32") -> Trace:
        """Runs one forward pass over a prompt and returns every probe.

        Args:
            checkpoint: The weights.
            tokens: The prompt, T token ids.
            dtype: What to compute in.

        Raises:
            CheckpointError: a token is outside the vocabulary, or there is none.
        """


def check_tokens(checkpoint: Checkpoint, tokens: Sequence[int]) -> np.ndarray:
    """The prompt as int64 [T].

    Raises:
        CheckpointError: it is empty, or a token is outside the checkpoint's vocabulary.
    """
    array = np.asarray(tokens, np.int64)
    vocabulary = checkpoint.config.vocab_size
    if array.ndim != 1 or not array.size:
        raise CheckpointError("the prompt has no tokens", where="tokens", expected="one row of token ids")
    outside = np.flatnonzero((array < 0) | (array >= vocabulary))
    if outside.size:
        raise CheckpointError(
            "a token is outside the vocabulary",
            where=f"tokens[{outside[0]}]",
            expected=f"0 … {vocabulary - 1}",
            found=int(array[outside[0]]),
        )
    return array


def metadata_of(
    checkpoint: Checkpoint,
    *,
    source: str,
    dtype: Dtype,
    distributions: Iterable[str],
    options: Mapping[str, str],
) -> TraceMetadata:
    """Provenance of a trace that is being recorded now; `distributions` are named as on PyPI."""
    return TraceMetadata(
        source=source,
        dtype=dtype,
        checkpoint_digest=checkpoint.digest(),
        config=checkpoint.config,
        versions={name: importlib.metadata.version(name) for name in distributions},
        options=options,
    )
