"""Greedy generation for prompts of any lengths: pads, prefills once, decodes until every sequence has stopped."""

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

import numpy as np
from gptoss_weights import GptOssConfig

from gptoss_onnx.errors import RequestError
from gptoss_onnx.kv_cache import KVCache

__all__ = ["Engine", "generate", "generate_steps"]


class Engine(Protocol):
    """What generation needs of a model; `OnnxModel` is one."""

    config: GptOssConfig

    def init_cache(self, batch: int = 1) -> KVCache:
        """An empty cache."""

    def prefill(self, cache: KVCache, tokens: np.ndarray, mask: np.ndarray | None = None) -> tuple[np.ndarray, KVCache]:
        """Logits of each sequence's last real token, and the new cache."""

    def decode_step(
        self, cache: KVCache, tokens: np.ndarray, *, is_active: np.ndarray | None = None
    ) -> tuple[np.ndarray, KVCache]:
        """Logits of the token just added, and the new cache."""


def generate(
    model: Engine, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, eos_token_ids: Collection[int] = ()
) -> list[list[int]]:
    """The new ids of each prompt's greedy continuation, its stop id included.

    Args:
        model: An `OnnxModel`.
        prompts: Token ids, at least one each.
        max_new_tokens: The most ids that a sequence gets.
        eos_token_ids: Ids after which a sequence stops.

    Raises:
        RequestError: a prompt is empty or has unknown ids, or there is none.
    """
    continuations: list[list[int]] = [[] for _ in prompts]
    for step in generate_steps(model, prompts, max_new_tokens=max_new_tokens, eos_token_ids=eos_token_ids):
        for continuation, token in zip(continuations, step, strict=True):
            if token is not None:
                continuation.append(token)
    return continuations


def generate_steps(
    model: Engine, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, eos_token_ids: Collection[int] = ()
) -> Iterator[list[int | None]]:
    """`generate`, step by step: each prompt's next id, or None where it has stopped."""
    if max_new_tokens < 0:
        raise RequestError("max_new_tokens is negative", found=max_new_tokens)
    tokens, mask = _padded(prompts)
    if max_new_tokens == 0:
        return
    logits, cache = model.prefill(model.init_cache(len(prompts)), tokens, mask)
    is_active = np.ones(len(prompts), np.bool_)
    stops = np.array(sorted(eos_token_ids), np.int64)
    for left in range(max_new_tokens, 0, -1):
        chosen = logits.argmax(axis=-1)
        yield [int(token) if active else None for token, active in zip(chosen, is_active, strict=True)]
        is_active = is_active & ~np.isin(chosen, stops)
        if left == 1 or not is_active.any():
            return
        logits, cache = model.decode_step(cache, chosen, is_active=is_active)


def _padded(prompts: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens int64 [B, T], padded on the right, and their mask."""
    lengths = np.array([len(prompt) for prompt in prompts])
    if not len(prompts):
        raise RequestError("there is no prompt to continue")
    if lengths.min() == 0:
        raise RequestError("a prompt needs at least one token", where=f"prompt {int(lengths.argmin())}")
    mask = np.arange(lengths.max()) < lengths[:, None]
    tokens = np.zeros(mask.shape, np.int64)
    tokens[mask] = np.concatenate([np.asarray(prompt) for prompt in prompts])
    return tokens, mask
