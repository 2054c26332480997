"""The one thing that every source does, and what all of them write into their traces."""

import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Protocol, get_args

import numpy as np
from gptoss_weights import Checkpoint, CheckpointError, probe_specs

from gptoss_parity.trace import Trace, TraceMetadata

__all__ = [
    "DTYPES",
    "Dtype",
    "GenerativeSource",
    "Source",
    "check_tokens",
    "metadata_of",
    "require_dtype",
    "wanted_probes",
]

type Dtype = Literal["float32", "bfloat16"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype.__value__)


class Source(Protocol):
    """An implementation of GPT-OSS, or a file of what one computed."""

    @property
    def name(self) -> str:
        """What traces and reports call it."""

    @property
    def dtypes(self) -> tuple[Dtype, ...]:
        """What it can compute in."""

    def record(self, checkpoint: Checkpoint, tokens: Sequence[int], *, dtype: Dtype = "float32") -> Trace:
        """Runs one forward pass over a prompt and returns every probe.

        Args:
            checkpoint: The weights.
            tokens: The prompt, T token ids.
            dtype: What to compute in.

        Raises:
            CheckpointError: a token is outside the vocabulary, or there is none.
            ValueError: the source does not compute in `dtype`.
        """


class GenerativeSource(Source, Protocol):
    """A source that also continues a prompt."""

    def generate(
        self, checkpoint: Checkpoint, tokens: Sequence[int], *, max_new_tokens: int, dtype: Dtype = "float32"
    ) -> list[int]:
        """The ids of a greedy continuation, without the prompt, exactly `max_new_tokens` of them."""


def check_tokens(checkpoint: Checkpoint, tokens: Sequence[int]) -> np.ndarray:
    """The prompt as int64 [T].

    Raises:
        CheckpointError: it is empty, or a token is outside the checkpoint's vocabulary.
    """
    ids = [int(token) for token in tokens]
    vocabulary = checkpoint.config.vocab_size
    if not ids:
        raise CheckpointError("the prompt has no tokens", where="tokens", expected="one row of token ids")
    for place, token in enumerate(ids):
        if not 0 <= token < vocabulary:
            raise CheckpointError(
                "a token is outside the vocabulary",
                where=f"tokens[{place}]",
                expected=f"0 … {vocabulary - 1}",
                found=token,
            )
    return np.array(ids, np.int64)


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


def wanted_probes(checkpoint: Checkpoint, tokens: np.ndarray) -> tuple[str, ...]:
    """Every probe that a model computes, in the order of the forward pass."""
    return tuple(name for name in probe_specs(checkpoint.config, len(tokens)) if name != "tokens")


def require_dtype(source: Source, dtype: Dtype) -> None:
    """Raises ValueError when a source does not compute in `dtype`."""
    if dtype not in source.dtypes:
        raise ValueError(f"the source {source.name!r} computes in {', '.join(source.dtypes)}, not in {dtype}")
