"""Steps of a graph of one static shape: there is no cache, so every step runs over the whole sequences again."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import onnxruntime as ort
from gptoss_weights import GptOssConfig

from gptoss_onnx.errors import RequestError
from gptoss_onnx.inputs import check_batch
from gptoss_onnx.kv_cache import Cache, require_kind
from gptoss_onnx.recipe import StaticShape
from gptoss_onnx.stepping.steps import Piece

__all__ = ["StaticSteps", "TokenHistory"]


@dataclasses.dataclass(frozen=True)
class TokenHistory:
    """The tokens so far, which stand in for a cache.

    Attributes:
        tokens: Of each sequence, int64.
    """

    tokens: tuple[np.ndarray, ...]

    @property
    def batch(self) -> int:
        """Number of sequences."""
        return len(self.tokens)

    @property
    def lengths(self) -> np.ndarray:
        """Real tokens of each sequence, int64 [B]."""
        return np.array([len(row) for row in self.tokens], np.int64)


class StaticSteps:
    """Pads what it gets to the graph's shape, on the right and with empty sequences."""

    def __init__(self, session: ort.InferenceSession, config: GptOssConfig, static: StaticShape) -> None:
        self._session = session
        self._config = config
        self._static = static
        self.longest: int | None = static.length

    def init_cache(self, batch: int, max_length: int | None) -> Cache:
        """An empty history."""
        if batch > self._static.batch:
            raise RequestError(
                "the batch is larger than that of the export", expected=f"at most {self._static.batch}", found=batch
            )
        self._require_length(max_length or 0)
        return TokenHistory((np.zeros(0, np.int64),) * batch)

    def run(
        self,
        cache: Cache,
        ids: np.ndarray,
        is_real: np.ndarray,
        names: Sequence[str],
        chunk: int,  # noqa: ARG002 - the shape is static
        *,
        last_only: bool = False,  # noqa: ARG002 - so it is
    ) -> Iterator[Piece]:
        """Runs once, and cuts out each sequence's new tokens."""
        before = require_kind(cache, TokenHistory)
        check_batch(before, is_real)
        after = TokenHistory(
            tuple(np.concatenate([old, row[real]]) for old, row, real in zip(before.tokens, ids, is_real, strict=True))
        )
        self._require_length(int(after.lengths.max()))
        shape = (self._static.batch, self._static.length)
        tokens, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for place, row in enumerate(after.tokens):
            tokens[place, : len(row)], mask[place, : len(row)] = row, 1
        found = self._session.run(list(names), {"input_ids": tokens, "attention_mask": mask})
        for place in range(after.batch):
            columns = np.flatnonzero(is_real[place])
            rows = slice(int(before.lengths[place]), int(after.lengths[place]))
            outputs = {name: array[place : place + 1, rows] for name, array in zip(names, found, strict=True)}
            yield Piece(np.array([place]), columns, outputs, after)

    def _require_length(self, length: int) -> None:
        if length > self._static.length:
            raise RequestError(
                "the sequence is longer than that of the export",
                expected=f"at most {self._static.length} tokens, prompt and answer together",
                found=length,
                fix="Ask for fewer, or export with a greater --sequence-length, or without one.",
            )
