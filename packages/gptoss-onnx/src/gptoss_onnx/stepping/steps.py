"""Steps: what running a graph on more tokens means, whatever becomes of its cache."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from gptoss_onnx.kv_cache import Cache

__all__ = ["Piece", "Steps"]


@dataclasses.dataclass(frozen=True)
class Piece:
    """The outputs of one run of the graph.

    Attributes:
        sequences: Which of the batch, int64 [b].
        columns: Which of the tokens [B, T] that were handed in, int64 [t].
        outputs: Name → array [b, t, …]; the next run may overwrite them.
        cache: After this run.
    """

    sequences: np.ndarray
    columns: np.ndarray
    outputs: Mapping[str, np.ndarray]
    cache: Cache


class Steps(Protocol):
    """Runs a graph.

    Attributes:
        longest: The most tokens that a sequence can come to, prompt and answer together; None: any number.
    """

    longest: int | None

    def init_cache(self, batch: int, max_length: int | None) -> Cache:
        """An empty cache for sequences of at most so many tokens, where the kind of cache wants to know."""

    def run(
        self,
        cache: Cache,
        ids: np.ndarray,
        is_real: np.ndarray,
        names: Sequence[str],
        chunk: int,
        *,
        last_only: bool = False,
    ) -> Iterator[Piece]:
        """Adds tokens int64 [B, T], real where is_real bool [B, T] says so, at most `chunk` of a sequence at a time.

        With `last_only`, only the logits of each sequence's last real token are wanted: `names` is
        `logits` alone, and pieces may leave out columns before those.

        There is at least one piece, and the last one's cache holds all tokens. A sequence without a
        real token may be in no piece.

        Raises:
            RequestError: the cache does not fit the model or the batch.
        """
