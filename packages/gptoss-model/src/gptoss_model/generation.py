"""Generating: prefill a cache, decode step by step, or the whole loop on the device.

`generate` pads prompts on the right to a common length out of a short list (`bucket_length`), so
that not every length compiles anew, and feeds long prompts in chunks, which bounds the memory of
attention. Then one compiled loop decodes until every sequence has stopped: the host does nothing
for a token, and a sequence that has stopped writes nothing to its cache.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gptoss_model.checks import check_mask, check_room, check_tokens
from gptoss_model.kv_cache import KVCache
from gptoss_model.model import GptOss
from gptoss_model.probing import ProbeRecorder

__all__ = ["bucket_length", "decode_step", "generate", "prefill"]

SMALLEST_BUCKET = 16  # tokens
PREFILL_CHUNK = 512  # tokens; bounds attention's scores to N · 512 · S numbers a sequence


def prefill(
    model: GptOss, cache: KVCache, tokens: jax.Array, mask: jax.Array | None = None
) -> tuple[jax.Array, KVCache]:
    """Adds tokens to a cache, which may hold some already (so a long prompt can come in chunks).

    The given cache is donated: its buffers become the new one's, and it cannot be used again.

    Args:
        model: The model.
        cache: Of `init_cache`, `prefill` or `decode_step`.
        tokens: Ids, integers [B, T].
        mask: True for real tokens, bool [B, T]; padding may stand anywhere. None: all are real.

    Returns:
        The logits of each sequence's last real token here, [B, V] (meaningless for a sequence that
        has none), and the cache with the tokens.

    Raises:
        ValueError: a sequence would grow beyond the cache's `max_length`, or a shape, a dtype or a
            token id is wrong. Inside a transformation values are not known: the caller answers for them.
    """
    mask = check_mask(mask, check_tokens(tokens, mask, vocab_size=model.config.vocab_size))
    check_room(cache.lengths, mask, cache.max_length)
    logits, cache = _prefill(model, cache, jnp.asarray(tokens, jnp.int32), mask)
    return logits, cache


def decode_step(model: GptOss, cache: KVCache, tokens: jax.Array) -> tuple[jax.Array, KVCache]:
    """Adds one token to each sequence; the given cache is donated, as in `prefill`.

    Args:
        model: The model.
        cache: Of `prefill` or `decode_step`.
        tokens: Ids, integers [B].

    Returns:
        Logits [B, V], and the cache with the tokens.

    Raises:
        ValueError: as in `prefill`.
    """
    if jnp.ndim(tokens) != 1:
        raise ValueError(f"decode_step takes one token a sequence, [B], not {list(jnp.shape(tokens))}")
    return prefill(model, cache, jnp.asarray(tokens)[:, None])


def generate(
    model: GptOss,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    eos_token_ids: Sequence[int] = (),
) -> list[list[int]]:
    """Continues prompts greedily, as one batch.

    Args:
        model: The model.
        prompts: Token ids; lengths may differ.
        max_new_tokens: The most tokens to add to each.
        eos_token_ids: A sequence ends with the first of these that it generates.

    Returns:
        The new ids of each prompt, the one that ended it included.

    Raises:
        ValueError: there is no prompt, one is empty or holds an id outside the vocabulary, or
            `max_new_tokens` is negative.
    """
    if not prompts or not all(len(prompt) for prompt in prompts):
        raise ValueError("generate needs at least one prompt, and at least one token in each")
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens is at least 0, not {max_new_tokens}")
    if max_new_tokens == 0:
        return [[] for _ in prompts]
    longest = max(len(prompt) for prompt in prompts)
    cache = model.init_cache(len(prompts), bucket_length(longest + max_new_tokens))
    logits = jnp.zeros((len(prompts), model.config.vocab_size), model.dtype)
    for tokens, mask in _chunks(prompts):
        last, cache = prefill(model, cache, jnp.asarray(tokens), jnp.asarray(mask))
        logits = jnp.where(mask.any(axis=1)[:, None], last, logits)
    new, counts, _ = _decode(
        model,
        cache,
        logits,
        jnp.int32(max_new_tokens),
        jnp.asarray(list(eos_token_ids), jnp.int32),
        room=bucket_length(max_new_tokens),
    )
    return [row[:count].tolist() for row, count in zip(np.asarray(new), np.asarray(counts), strict=True)]


def bucket_length(length: int) -> int:
    """The length to pad to: the next power of two from 16 to 512, then the next multiple of 512.

    So lengths up to n tokens compile at most 6 + n / 512 times.
    """
    if length > PREFILL_CHUNK:
        return -(-length // PREFILL_CHUNK) * PREFILL_CHUNK
    return max(1 << (length - 1).bit_length(), SMALLEST_BUCKET)


def _chunks(prompts: Sequence[Sequence[int]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Tokens and mask of each chunk, [B, bucket], padded on the right."""
    longest = max(len(prompt) for prompt in prompts)
    for start in range(0, longest, PREFILL_CHUNK):
        shape = (len(prompts), bucket_length(min(longest - start, PREFILL_CHUNK)))
        tokens, mask = np.zeros(shape, np.int64), np.zeros(shape, bool)
        for row, prompt in enumerate(prompts):
            part = prompt[start : start + PREFILL_CHUNK]
            tokens[row, : len(part)], mask[row, : len(part)] = part, True
        yield tokens, mask


class _DecodeState(NamedTuple):
    steps: jax.Array  # tokens so far
    cache: KVCache
    tokens: jax.Array  # [B], the newest, not yet in the cache
    is_done: jax.Array  # [B]
    generated: jax.Array  # [B, room]
    lengths: jax.Array  # [B], how many of `generated` count


def _step(model: GptOss, cache: KVCache, tokens: jax.Array, mask: jax.Array) -> tuple[jax.Array, KVCache]:
    """Logits of each sequence's last real token; unembedding the others would be most of the work."""
    record = ProbeRecorder(())
    x, cache = model.extend(tokens, mask, cache, record)
    last = mask.shape[1] - 1 - jnp.argmax(mask[:, ::-1], axis=1)
    return model.unembed(x[jnp.arange(len(last)), last], record), cache


@functools.partial(jax.jit, donate_argnames=("cache",))
def _prefill(model: GptOss, cache: KVCache, tokens: jax.Array, mask: jax.Array) -> tuple[jax.Array, KVCache]:
    return _step(model, cache, tokens, mask)


@functools.partial(jax.jit, static_argnames=("room",), donate_argnames=("cache",))
def _decode(
    model: GptOss, cache: KVCache, logits: jax.Array, limit: jax.Array, eos: jax.Array, *, room: int
) -> tuple[jax.Array, jax.Array, KVCache]:
    """New ids [B, room], how many of them count [B], and the cache (returned so that it can be donated)."""
    B = logits.shape[0]
    state = _DecodeState(
        steps=jnp.int32(0),
        cache=cache,
        tokens=jnp.zeros(B, jnp.int32),
        is_done=jnp.zeros(B, bool),
        generated=jnp.zeros((B, room), jnp.int32),
        lengths=jnp.zeros(B, jnp.int32),
    )

    def append(state: _DecodeState, logits: jax.Array) -> _DecodeState:
        tokens = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        return state._replace(
            steps=state.steps + 1,
            tokens=tokens,
            is_done=state.is_done | jnp.isin(tokens, eos),
            generated=state.generated.at[:, state.steps].set(tokens),
            lengths=state.lengths + ~state.is_done,
        )

    def body(state: _DecodeState) -> _DecodeState:
        logits, cache = _step(model, state.cache, state.tokens[:, None], ~state.is_done[:, None])
        return append(state._replace(cache=cache), logits)

    def goes_on(state: _DecodeState) -> jax.Array:
        return (state.steps < limit) & ~state.is_done.all()

    state = lax.while_loop(goes_on, body, append(state, logits))
    return state.generated, state.lengths, state.cache
