"""OnnxModel: an exported model in ONNX Runtime; token ids in, logits out.

Long inputs go through in chunks, each on the cache of those before, so that attention scores take
memory for a chunk of queries only.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from gptoss_weights import GptOssConfig, probe_specs
from gptoss_weights.sampling import Sampling
from numpy.typing import ArrayLike

from gptoss_onnx.errors import RequestError
from gptoss_onnx.generation import generate
from gptoss_onnx.inputs import last_real_columns, token_batch
from gptoss_onnx.kv_cache import Cache
from gptoss_onnx.metadata import ModelMetadata
from gptoss_onnx.session import Mode, OpenedModel, open_session
from gptoss_onnx.stepping import Steps, choose_steps

__all__ = ["OnnxModel"]

CHUNK_TOKENS = 512  # queries at a time


class OnnxModel:
    """Runs a folder that `export_onnx` made, with neither JAX nor PyTorch.

    Attributes:
        config: The geometry.
        metadata: Provenance, recipe, stop ids and probes of the export.
    """

    def __init__(self, opened: OpenedModel) -> None:
        self.config: GptOssConfig = opened.metadata.config
        self.metadata: ModelMetadata = opened.metadata
        self._steps: Steps = choose_steps(opened.session, opened.metadata)

    @staticmethod
    def open(folder: Path | str, *, threads: int | None = None, mode: Mode = "exact") -> "OnnxModel":
        """Opens the folder that `export_onnx` made.

        Args:
            folder: It holds `model.onnx`.
            threads: How many to use; None for one a core.
            mode: `exact` computes in f32. `turbo`, for exports of profile fast, rounds activations to
                int8 where the operators can, and is faster.

        Raises:
            CheckpointError: there is no such model, or a weight file is missing or another.
            MissingDependencyError: this ONNX Runtime is too old, or has no provider for the export.
            OptionError: the export does not have that mode.
        """
        return OnnxModel(open_session(Path(folder), threads=threads, mode=mode))

    @property
    def longest(self) -> int | None:
        """The most tokens that a sequence can come to in this export, prompt and answer together; None: any number."""
        return self._steps.longest

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
        return self._whole(tokens, mask, [*self.metadata.probes, "logits"])

    def trace(self, tokens: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """Every probe of one sequence, by name: `tokens` [T], those of the export, `logits` [T, V]."""
        row = np.asarray(tokens)
        return {"tokens": row} | {name: array[0] for name, array in self.probe(row[None]).items()}

    def init_cache(self, batch: int = 1, max_length: int | None = None) -> Cache:
        """An empty cache for `batch` sequences; it grows with each step, from `max_length` tokens where that is known.

        Raises:
            RequestError: it is more than a graph of static shape can take, or no sequence at all.
        """
        if batch < 1 or (max_length is not None and max_length < 1):
            raise RequestError(f"a cache needs a batch and a max_length of at least 1, not {batch} and {max_length}")
        return self._steps.init_cache(batch, max_length)

    def prefill(
        self, cache: Cache, tokens: ArrayLike, mask: ArrayLike | None = None, *, prefill_length: int | None = None
    ) -> tuple[np.ndarray, Cache]:
        """Adds tokens [B, T] to the cache, empty or not.

        Where the export keeps its cache in place (profile fast), the given one cannot be used again.

        Args:
            cache: Of `init_cache`, `prefill` or `decode_step`.
            tokens: Integers [B, T].
            mask: bool [B, T], True where a token is real; padding may stand anywhere.
            prefill_length: How many tokens of a sequence go through at a time; by default at most 512.

        Returns:
            Logits of each sequence's last real token here, f32 [B, V] (meaningless for a sequence
            that has none), and the new cache.

        Raises:
            RequestError: something does not fit.
        """
        ids, is_real = token_batch(tokens, mask, vocab_size=self.config.vocab_size)
        last = last_real_columns(is_real)
        logits = np.zeros((len(ids), self.config.vocab_size), np.float32)
        for piece in self._steps.run(cache, ids, is_real, ["logits"], _chunk(prefill_length), last_only=True):
            cache = piece.cache
            if ids.shape == (len(piece.sequences), len(piece.columns)) and ids.shape[1] == 1:  # a step of decoding
                np.copyto(logits, piece.outputs["logits"][:, 0])
                break
            for place, sequence in enumerate(piece.sequences):
                found = np.flatnonzero(piece.columns == last[sequence])
                if len(found):
                    logits[sequence] = piece.outputs["logits"][place, found[0]]
        return logits, cache

    def decode_step(
        self, cache: Cache, tokens: ArrayLike, *, is_active: ArrayLike | None = None
    ) -> tuple[np.ndarray, Cache]:
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
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        eos_token_ids: Collection[int] = (),
        sampling: Sampling | None = None,
        seed: int = 0,
    ) -> list[list[int]]:
        """Continuations of prompts of any lengths: the new ids only, the stop id included; see `complete`.

        Raises:
            RequestError: a prompt is empty or has unknown ids, or there is none.
        """
        return generate(
            self,
            prompts,
            max_new_tokens=max_new_tokens,
            eos_token_ids=eos_token_ids,
            sampling=sampling,
            seed=seed,
        )

    def _whole(self, tokens: ArrayLike, mask: ArrayLike | None, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Outputs of sequences that begin here."""
        ids, is_real = token_batch(tokens, mask, vocab_size=self.config.vocab_size)
        batch, length = ids.shape
        specs = probe_specs(self.config, tokens=length, block_debug=True)
        whole = {
            name: np.zeros((batch, *specs[name].shape), np.int64 if specs[name].is_integer else np.float32)
            for name in names
        }
        cache = self.init_cache(batch, length)
        for piece in self._steps.run(cache, ids, is_real, names, CHUNK_TOKENS):
            places = np.ix_(piece.sequences, piece.columns)
            for name, array in piece.outputs.items():
                whole[name][places] = array
        return whole


def _chunk(prefill_length: int | None) -> int:
    if prefill_length is not None and prefill_length < 1:
        raise RequestError(f"prefill_length is at least 1, not {prefill_length}")
    return prefill_length or CHUNK_TOKENS
