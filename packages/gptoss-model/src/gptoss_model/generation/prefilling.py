"""Filling a cache: one step of any length, or whole prompts in pieces.

Pieces bound the memory of attention, and being padded to a few lengths (`bucket_length`) they do not
compile anew for every prompt. Only each sequence's last real token is unembedded: the logits of all
would be most of the work, and 400 MB for 512 tokens at the published vocabulary.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from gptoss_model.checks import check_mask, check_room, check_tokens
from gptoss_model.generation.flat_model import FlatModel
from gptoss_model.generation.lengths import LARGEST_PIECE, bucket_length
from gptoss_model.kv_cache import KVCache
from gptoss_model.model import GptOss
from gptoss_model.sharding.hosts import host_array

__all__ = [
    "SCORED_POSITIONS",
    "Piece",
    "Prefilled",
    "decode_step",
    "extend_cache",
    "prefill",
    "prefill_prompts",
    "prompt_pieces",
]

SCORED_POSITIONS = 32  # unembedded at a time where prompts are scored: 26 MB of f32 logits a sequence, published size


def prefill(
    model: GptOss, cache: KVCache, tokens: jax.Array, mask: jax.Array | None = None
) -> tuple[jax.Array, KVCache]:
    """Adds tokens to a cache, which may hold some already (so a long prompt can come in pieces).

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
    logits, _, cache = extend_cache(FlatModel.of(model), cache, jnp.asarray(tokens, jnp.int32), mask)
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


@functools.partial(jax.jit, donate_argnames=("cache",))
def extend_cache(
    model: FlatModel,
    cache: KVCache,
    tokens: Int[Array, "B T"],
    mask: Bool[Array, "B T"],
    targets: Int[Array, "B T"] | None = None,
) -> tuple[Float[Array, "B V"], Float[Array, "B T"] | None, KVCache]:
    """Logits of each sequence's last real token, the log-probability of each target, and the cache after it."""
    whole = model.whole()
    x, cache = whole.extend(tokens, mask, cache)
    last = mask.shape[1] - 1 - jnp.argmax(mask[:, ::-1], axis=1)
    logits = whole.unembed(x[jnp.arange(len(last)), last])
    return logits, None if targets is None else _score(whole, x, targets), cache


class Prefilled(NamedTuple):
    """Logits of each prompt's last token [B, V], the cache, and each prompt's log-probabilities but the first's."""

    logits: jax.Array
    cache: KVCache
    logprobs: list[list[float]] | None


def prefill_prompts(
    model: FlatModel,
    cache: KVCache,
    prompts: Sequence[Sequence[int]],
    *,
    length: int | None,
    is_scored: bool,
) -> Prefilled:
    """Feeds whole prompts to an empty cache.

    Args:
        model: The model.
        cache: An empty cache that has room for them.
        prompts: Token ids of the vocabulary, at least one each.
        length: Tokens of a piece, also of the last; by default at most 512, padded to a bucket.
        is_scored: Whether to give log-probabilities too.
    """
    logits: jax.Array | None = None
    scores: list[list[float]] = [[] for _ in prompts]
    for piece in prompt_pieces(prompts, length):
        mask = jnp.asarray(piece.mask)
        targets = jnp.asarray(piece.targets) if is_scored else None
        last, logprobs, cache = extend_cache(model, cache, jnp.asarray(piece.tokens), mask, targets)
        logits = last if logits is None else _newer(last, logits, mask)
        if logprobs is not None:
            for row, (values, counts) in enumerate(zip(host_array(logprobs), piece.has_target, strict=True)):
                scores[row] += values[counts].tolist()
    assert logits is not None
    return Prefilled(logits, cache, scores if is_scored else None)


class Piece(NamedTuple):
    """[B, T] each, padded on the right; a target is the token that follows."""

    tokens: np.ndarray
    mask: np.ndarray
    targets: np.ndarray
    has_target: np.ndarray


def prompt_pieces(prompts: Sequence[Sequence[int]], length: int | None) -> Iterator[Piece]:
    """Cuts prompts into pieces, of that length or of at most 512 tokens and padded to a bucket."""
    longest = max(len(prompt) for prompt in prompts)
    step = length or LARGEST_PIECE
    for start in range(0, longest, step):
        shape = (len(prompts), length or bucket_length(min(longest - start, step)))
        tokens, targets = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        mask, has_target = np.zeros(shape, bool), np.zeros(shape, bool)
        for row, prompt in enumerate(prompts):
            part, following = prompt[start : start + step], prompt[start + 1 : start + step + 1]
            tokens[row, : len(part)], mask[row, : len(part)] = part, True
            targets[row, : len(following)], has_target[row, : len(following)] = following, True
        yield Piece(tokens, mask, targets, has_target)


@jax.jit
def _newer(last: jax.Array, before: jax.Array, mask: jax.Array) -> jax.Array:
    """The logits of this piece where a sequence has a token in it, else those of the pieces before."""
    return jnp.where(mask.any(axis=1)[:, None], last, before)


def _score(model: GptOss, x: Float[Array, "B T D"], targets: Int[Array, "B T"]) -> Float[Array, "B T"]:
    """The log-probability of each target, f32, a few positions at a time."""
    B, T, D = x.shape
    size = min(T, SCORED_POSITIONS)
    count = -(-T // size)
    padding = count * size - T
    parts = jnp.pad(x, ((0, 0), (0, padding), (0, 0))).reshape(B, count, size, D).swapaxes(0, 1)
    wanted = jnp.pad(targets, ((0, 0), (0, padding))).reshape(B, count, size).swapaxes(0, 1)

    def score(part: tuple[jax.Array, jax.Array]) -> jax.Array:
        logits = model.unembed(part[0]).astype(jnp.float32)
        chosen = jnp.take_along_axis(logits, part[1][..., None], axis=-1)[..., 0]
        return chosen - jax.nn.logsumexp(logits, axis=-1)

    scores: jax.Array = lax.map(score, (parts, wanted))
    return scores.swapaxes(0, 1).reshape(B, count * size)[:, :T]
