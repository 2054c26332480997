"""OnnxModel: an exported model in ONNX Runtime; token ids in, logits out.

Long inputs go through in chunks, each on the cache of those before, so that attention scores take
memory for a chunk of queries only. The cache never passes through numpy.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from gptoss_weights import GptOssConfig
from numpy.typing import ArrayLike

from gptoss_onnx.generation import generate
from gptoss_onnx.inputs import check_step, token_batch
from gptoss_onnx.kv_cache import KVCache, cache_names, empty_cache
from gptoss_onnx.metadata import ModelMetadata
from gptoss_onnx.session import OpenedModel, open_session

__all__ = ["OnnxModel"]

CHUNK_TOKENS = 512  # queries at a time

type Outputs = Mapping[str, np.ndarray]


class OnnxModel:
    """Runs a folder that `export_onnx` made, with neither JAX nor PyTorch; everything is f32.

    Attributes:
        config: The geometry.
        metadata: Provenance, stop ids and probes of the export.
    """

    def __init__(self, opened: OpenedModel) -> None:
        self.config: GptOssConfig = opened.metadata.config
        self.metadata: ModelMetadata = opened.metadata
        self._session: ort.InferenceSession = opened.session

    @staticmethod
    def open(folder: Path | str, *, threads: int | None = None) -> "OnnxModel":
        """Opens the folder that `export_onnx` made.

        Args:
            folder: It holds `model.onnx`.
            threads: How many to use; None for one a core.

        Raises:
            CheckpointError: there is no such model, or a weight file is missing or another.
        """
        return OnnxModel(open_session(Path(folder), threads=threads))

    def forward(self, tokens: ArrayLike, mask: ArrayLike | None = None) -> np.ndarray:
        """Logits of whole sequences, f32 [B, T, V].

        Args:
            tokens: Integers [B, T].
            mask: bool [B, T], True where a token is real; padding may stand anywhere.

        Raises:
            RequestError: ids or mask do not fit.
        """
        return self._whole(tokens, mask, ["logits"])["logits"]

    def probe(self, tokens: ArrayLike, mask: ArrayLike | None = None) -> dict[str, np.ndarray]:
        """`forward` with every probe that the graph was exported with: name → array [B, T, …], `logits` too."""
        return dict(self._whole(tokens, mask, [*self.metadata.probes, "logits"]))

    def trace(self, tokens: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """Every probe of one sequence, by name: `tokens` [T], those of the export, `logits` [T, V]."""
        row = np.asarray(tokens)
        return {"tokens": row} | {name: array[0] for name, array in self.probe(row[None]).items()}

    def init_cache(self, batch: int = 1) -> KVCache:
        """An empty cache for `batch` sequences; it grows with each step."""
        return empty_cache(self.config, batch)

    def prefill(self, cache: KVCache, tokens: ArrayLike, mask: ArrayLike | None = None) -> tuple[np.ndarray, KVCache]:
        """Adds tokens [B, T] to the cache, empty or not.

        Returns:
            Logits of each sequence's last real token here, f32 [B, V] (meaningless for a sequence
            that has none), and the new cache.

        Raises:
            RequestError: something does not fit.
        """
        ids, is_real = token_batch(tokens, mask, vocab_size=self.config.vocab_size)
        last = is_real.shape[1] - 1 - is_real[:, ::-1].argmax(axis=1)
        logits = np.empty((len(ids), self.config.vocab_size), np.float32)
        for start, outputs, after in self._chunks(cache, ids, is_real, ["logits"]):
            cache = after
            ends_here = (start <= last) & (last < start + CHUNK_TOKENS)
            logits[ends_here] = outputs["logits"][ends_here, last[ends_here] - start]
        return logits, cache

    def decode_step(
        self, cache: KVCache, tokens: ArrayLike, *, is_active: ArrayLike | None = None
    ) -> tuple[np.ndarray, KVCache]:
        """Adds one token to each sequence; those that are not active (bool [B]) get none.

        Args:
            cache: What the last step returned.
            tokens: Integers [B].
            is_active: bool [B]; by default all are.

        Returns:
            Logits f32 [B, V], meaningless for a sequence that is not active, and the new cache.

        Raises:
            RequestError: something does not fit.
        """
        mask = None if is_active is None else np.asarray(is_active)[:, None]
        return self.prefill(cache, np.asarray(tokens)[:, None], mask)

    def generate(
        self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, eos_token_ids: Collection[int] = ()
    ) -> list[list[int]]:
        """Greedy continuations of prompts of any lengths: the new ids only, the stop id included.

        Raises:
            RequestError: a prompt is empty or has unknown ids, or there is none.
        """
        return generate(self, prompts, max_new_tokens=max_new_tokens, eos_token_ids=eos_token_ids)

    def _whole(self, tokens: ArrayLike, mask: ArrayLike | None, names: Sequence[str]) -> Outputs:
        """Outputs of sequences that begin here."""
        ids, is_real = token_batch(tokens, mask, vocab_size=self.config.vocab_size)
        return self._run(self.init_cache(len(ids)), ids, is_real, names)[0]

    def _run(
        self, cache: KVCache, ids: np.ndarray, is_real: np.ndarray, names: Sequence[str]
    ) -> tuple[Outputs, KVCache]:
        """All chunks' outputs, joined along T, and the cache after the last."""
        pieces: list[Outputs] = []
        for _, outputs, after in self._chunks(cache, ids, is_real, names):
            pieces.append(outputs)
            cache = after
        return {name: np.concatenate([piece[name] for piece in pieces], axis=1) for name in names}, cache

    def _chunks(
        self, cache: KVCache, ids: np.ndarray, is_real: np.ndarray, names: Sequence[str]
    ) -> Iterator[tuple[int, Outputs, KVCache]]:
        """Runs chunk by chunk: the column where it starts, its outputs, the cache after it."""
        check_step(self.config, cache, is_real)
        for start in range(0, ids.shape[1], CHUNK_TOKENS):
            chunk = slice(start, start + CHUNK_TOKENS)
            outputs, cache = self._step(cache, ids[:, chunk], is_real[:, chunk], names)
            yield start, outputs, cache

    def _step(
        self, cache: KVCache, ids: np.ndarray, is_real: np.ndarray, names: Sequence[str]
    ) -> tuple[Outputs, KVCache]:
        """One run of the graph."""
        mask = np.concatenate([cache.mask, is_real.astype(np.int64)], axis=1)
        feeds = dict(cache.values)
        feeds["input_ids"] = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(ids))
        feeds["attention_mask"] = ort.OrtValue.ortvalue_from_numpy(mask)
        past = cache_names(self.config)
        present = [name.replace("past_key_values", "present") for name in past]
        values = self._session.run_with_ort_values([*names, *present], feeds)
        outputs = {name: value.numpy() for name, value in zip(names, values[: len(names)], strict=True)}
        return outputs, KVCache(values=dict(zip(past, values[len(names) :], strict=True)), mask=mask)
