"""Steps with a cache that grows: each run takes the rows so far and gives them back with the new ones.

The cache never passes through NumPy, and is a value: the one before a step stays as it was.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import onnxruntime as ort
from gptoss_weights import GptOssConfig

from gptoss_onnx.inputs import check_batch, last_real_columns
from gptoss_onnx.kv_cache import Cache, KVCache, cache_names, empty_cache, require_kind
from gptoss_onnx.metadata import LOGITS_TO_KEEP
from gptoss_onnx.stepping.steps import Piece

__all__ = ["GrowingSteps"]


class GrowingSteps:
    """For graphs with attention in ONNX's own operators; padding goes in as it comes."""

    def __init__(self, session: ort.InferenceSession, config: GptOssConfig) -> None:
        self._session = session
        self._config = config
        self.longest: int | None = None

    def init_cache(self, batch: int, max_length: int | None) -> Cache:  # noqa: ARG002 - it grows as far as memory goes
        """An empty cache."""
        return empty_cache(self._config, batch)

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
        """Runs chunk by chunk, all sequences together."""
        growing = require_kind(cache, KVCache)
        check_batch(growing, is_real)
        growing.check(self._config)
        every_sequence, last = np.arange(len(ids)), last_real_columns(is_real)
        for start in range(0, ids.shape[1], chunk):
            columns = np.arange(start, min(start + chunk, ids.shape[1]))
            kept = _kept(columns, last) if last_only else columns
            outputs, growing = self._step(growing, ids[:, columns], is_real[:, columns], names, keep=len(kept))
            yield Piece(every_sequence, kept, outputs, growing)

    def _step(
        self, cache: KVCache, ids: np.ndarray, is_real: np.ndarray, names: Sequence[str], *, keep: int
    ) -> tuple[dict[str, np.ndarray], KVCache]:
        """One run of the graph, with logits of the last `keep` columns."""
        mask = np.concatenate([cache.mask, is_real.astype(np.int64)], axis=1)
        feeds = dict(cache.values)
        feeds["input_ids"] = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(ids))
        feeds["attention_mask"] = ort.OrtValue.ortvalue_from_numpy(mask)
        feeds[LOGITS_TO_KEEP] = ort.OrtValue.ortvalue_from_numpy(np.array([keep]))
        past = cache_names(self._config)
        present = [name.replace("past_key_values", "present") for name in past]
        values = self._session.run_with_ort_values([*names, *present], feeds)
        outputs = {name: value.numpy() for name, value in zip(names, values[: len(names)], strict=True)}
        return outputs, KVCache(values=dict(zip(past, values[len(names) :], strict=True)), mask=mask)


def _kept(columns: np.ndarray, last: np.ndarray) -> np.ndarray:
    """From the first column that is some sequence's last real one; the graph has at least one row to compute."""
    wanted = np.intersect1d(columns, last)
    return columns[columns >= wanted[0]] if len(wanted) else columns[-1:]
