"""Steps with a cache in place: past and present are one buffer, which GroupQueryAttention writes into.

Its sequences stand side by side from their own starts, so padding is left out here: a prompt runs
sequence by sequence, decoding runs the batch together. A sequence that gets no token in a step
would get a wrong row all the same; then those that do get one run by themselves.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import onnxruntime as ort
from gptoss_weights import GptOssConfig

from gptoss_onnx.errors import RequestError
from gptoss_onnx.inputs import check_batch
from gptoss_onnx.kv_cache import Cache, require_kind
from gptoss_onnx.metadata import LOGITS_TO_KEEP
from gptoss_onnx.shared_cache import SharedCache
from gptoss_onnx.stepping.steps import Piece

__all__ = ["SharedSteps"]


class SharedSteps:
    """For graphs with GroupQueryAttention; the cache before a step cannot be used again."""

    def __init__(self, session: ort.InferenceSession, config: GptOssConfig) -> None:
        self._session = session
        self._config = config
        self.longest: int | None = config.max_position_embeddings

    def init_cache(self, batch: int, max_length: int | None) -> Cache:
        """An empty cache, with room for `max_length` tokens; it is made larger where more come."""
        return SharedCache.empty(self._config, batch, max_length)

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
        """Runs the batch together where each sequence gets just one token, else sequence by sequence."""
        shared = require_kind(cache, SharedCache)
        check_batch(shared, is_real)
        shared.check(self._config)
        after = shared.lengths + is_real.sum(axis=1)
        if self.longest is not None and after.max() > self.longest:
            raise RequestError(
                "the sequence goes beyond the positions that the export has a rotation for",
                expected=f"at most {self.longest} tokens",
                found=int(after.max()),
                fix="Export with profile portable, which has no last position.",
            )
        shared = shared.taken_over(room=int(after.max()))
        if is_real.shape[1] == 1 and is_real.all() and shared.lengths.min() > 0:
            every_sequence = np.arange(len(ids))
            lengths = shared.lengths + 1
            if list(names) == ["logits"]:
                outputs = {"logits": self._decode(shared, ids, lengths)}
            else:
                outputs = self._step(shared, None, ids, lengths, names, keep=1)
            yield Piece(every_sequence, np.zeros(1, np.int64), outputs, shared.grown_by(is_real.sum(axis=1)))
            return
        for sequence in range(len(ids)):
            columns = np.flatnonzero(is_real[sequence])
            for start in range(0, len(columns), chunk):
                part = columns[start : start + chunk]
                length = shared.lengths[sequence : sequence + 1] + len(part)
                kept = part[-1:] if last_only else part
                row = ids[sequence : sequence + 1, part]
                outputs = self._step(shared, sequence, row, length, names, keep=len(kept))
                shared = shared.grown_by(len(part) * (np.arange(len(ids)) == sequence))
                yield Piece(np.array([sequence]), kept, outputs, shared)
        if not is_real.any():
            yield Piece(np.zeros(0, np.int64), np.zeros(0, np.int64), {}, shared)

    def _decode(self, cache: SharedCache, ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """One token of every sequence: its logits, which the next step overwrites."""
        decoding = cache.decoding(self._session)
        decoding.ids[:] = ids
        decoding.binding.bind_cpu_input("attention_mask", _attention_mask(lengths))
        self._session.run_with_iobinding(decoding.binding)
        return decoding.logits

    def _step(
        self,
        cache: SharedCache,
        sequence: int | None,
        ids: np.ndarray,
        lengths: np.ndarray,
        names: Sequence[str],
        *,
        keep: int,
    ) -> dict[str, np.ndarray]:
        """One run of the graph over one sequence or all, which have `lengths` tokens after it.

        Logits come for the last `keep` columns.
        """
        binding = cache.binding(self._session, sequence)
        binding.bind_cpu_input("input_ids", np.ascontiguousarray(ids))
        binding.bind_cpu_input("attention_mask", _attention_mask(lengths))
        binding.bind_ortvalue_input(LOGITS_TO_KEEP, ort.OrtValue.ortvalue_from_numpy(np.array([keep])))
        for name in names:
            binding.bind_output(name)
        self._session.run_with_iobinding(binding)
        found = binding.get_outputs()[-len(names) :] if names else []
        return {name: value.numpy() for name, value in zip(names, found, strict=True)}


def _attention_mask(lengths: np.ndarray) -> np.ndarray:
    """1 where a sequence has a token, int64 [B, longest]."""
    return (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
