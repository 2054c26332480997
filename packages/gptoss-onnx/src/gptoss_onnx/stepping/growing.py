"""Steps with a cache that grows: each run takes the rows so far and gives them back with the new ones.

The cache never passes through NumPy, and is a value: the one before a step stays as it was.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import onnxruntime as ort
from gptoss_weights import GptOssConfig

from gptoss_onnx.inputs import check_batch
from gptoss_onnx.kv_cache import Cache, KVCache, cache_names, empty_cache, require_kind
from gptoss_onnx.stepping.steps import Piece

__all__ = ["GrowingSteps"]


class GrowingSteps:
    """For graphs with attention in ONNX's own operators; padding goes in as it comes."""

    def __init__(self, session: ort.InferenceSession, config: GptOssConfig) -> None:
        self._session = session
        self._config = config

    def init_cache(self, batch: int, max_length: int | None) -> Cache:  # noqa: ARG002 - it grows as far as memory goes
        """An empty cache."""
        return empty_cache(self._config, batch)

    def run(
        self, cache: Cache, ids: np.ndarray, is_real: np.ndarray, names: Sequence[str], chunk: int
    ) -> Iterator[Piece]:
        """Runs chunk by chunk, all sequences together."""
        growing = require_kind(cache, KVCache)
        check_batch(growing, is_real)
        growing.check(self._config)
        every_sequence = np.arange(len(ids))
        for start in range(0, ids.shape[1], chunk):
            columns = np.arange(start, min(start + chunk, ids.shape[1]))
            outputs, growing = self._step(growing, ids[:, columns], is_real[:, columns], names)
            yield Piece(every_sequence, columns, outputs, growing)

    def _step(
        self, cache: KVCache, ids: np.ndarray, is_real: np.ndarray, names: Sequence[str]
    ) -> tuple[dict[str, np.ndarray], KVCache]:
        """One run of the graph."""
        mask = np.concatenate([cache.mask, is_real.astype(np.int64)], axis=1)
        feeds = dict(cache.values)
        feeds["input_ids"] = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(ids))
        feeds["attention_mask"] = ort.OrtValue.ortvalue_from_numpy(mask)
        past = cache_names(self._config)
        present = [name.replace("past_key_values", "present") for name in past]
        values = self._session.run_with_ort_values([*names, *present], feeds)
        outputs = {name: value.numpy() for name, value in zip(names, values[: len(names)], strict=True)}
        return outputs, KVCache(values=dict(zip(past, values[len(names) :], strict=True)), mask=mask)
