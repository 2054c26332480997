"""Decoding: choose a token, add it to the cache, again and again, in one compiled loop.

The loop runs until it has filled its record, has reached the limit, or every sequence has stopped;
the host does nothing for a token. Streaming runs the same loop with a record of one step. A
sequence that has stopped writes nothing to its cache.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from gptoss_model.generation.flat_model import FlatModel
from gptoss_model.generation.prefilling import extend_cache
from gptoss_model.kv_cache import KVCache
from gptoss_model.sampling import SamplingValues, sample_tokens

__all__ = ["Choice", "Progress", "Rules", "begin", "decode"]


class Choice(NamedTuple):
    """Chosen tokens, int32 [B, …], and what is reported of them: the axes … are none, or the steps of a record."""

    tokens: jax.Array
    logprobs: jax.Array | None  # f32 [B, …], of the tokens
    top_tokens: jax.Array | None  # int32 [B, …, n], the most likely ones
    top_logprobs: jax.Array | None  # f32 [B, …, n]


class Rules(NamedTuple):
    """How to choose, and when to stop."""

    keys: jax.Array  # [B], of `sequence_keys`
    sampling: SamplingValues | None
    eos: jax.Array  # int32 ids


class Progress(NamedTuple):
    """Where a generation stands."""

    steps: jax.Array  # int32, tokens chosen so far
    tokens: jax.Array  # int32 [B], the newest, not yet in the cache
    is_done: jax.Array  # bool [B]


@functools.partial(jax.jit, static_argnames=("report",))
def begin(logits: Float[Array, "B V"], rules: Rules, *, report: int | None) -> tuple[Choice, Progress]:
    """The first tokens, as a record [B, 1].

    Args:
        logits: Of the prompts' last tokens.
        rules: How to choose, and when to stop.
        report: None for tokens alone, else how many of the most likely to report beside the chosen.
    """
    B = logits.shape[0]
    progress = Progress(jnp.int32(0), jnp.zeros(B, jnp.int32), jnp.zeros(B, bool))
    choice, progress = _choose(logits, progress, rules, report)
    return jax.tree.map(lambda first: first[:, None], choice), progress


@functools.partial(jax.jit, static_argnames=("room", "report"), donate_argnames=("cache",))
def decode(
    model: FlatModel,
    cache: KVCache,
    progress: Progress,
    rules: Rules,
    limit: jax.Array,
    *,
    room: int,
    report: int | None,
) -> tuple[Choice, Progress, KVCache]:
    """Goes on for at most `room` steps, and to at most `limit` tokens.

    Args:
        model: The model.
        cache: Holds all tokens but the newest; donated.
        progress: Of `begin` or `decode`.
        rules: How to choose, and when to stop.
        limit: Tokens in all, int32.
        room: Steps of the record.
        report: As in `begin`.

    Returns:
        The record, [B, room], meaningless behind a sequence's end; the progress; the cache.
    """
    start = progress.steps

    def goes_on(state: tuple[Choice, Progress, KVCache]) -> jax.Array:
        _, progress, _ = state
        return (progress.steps < jnp.minimum(limit, start + room)) & ~progress.is_done.all()

    def step(state: tuple[Choice, Progress, KVCache]) -> tuple[Choice, Progress, KVCache]:
        record, before, cache = state
        logits, _, cache = extend_cache(model, cache, before.tokens[:, None], ~before.is_done[:, None])
        choice, after = _choose(logits, before, rules, report)
        column = before.steps - start
        record = jax.tree.map(lambda all_, new: all_.at[:, column].set(new), record, choice)
        return record, after, cache

    B = progress.tokens.shape[0]
    tops = (B, room, report)
    record = Choice(
        tokens=jnp.zeros((B, room), jnp.int32),
        logprobs=None if report is None else jnp.zeros((B, room), jnp.float32),
        top_tokens=jnp.zeros(tops, jnp.int32) if report else None,
        top_logprobs=jnp.zeros(tops, jnp.float32) if report else None,
    )
    return lax.while_loop(goes_on, step, (record, progress, cache))


def _choose(logits: Float[Array, "B V"], before: Progress, rules: Rules, report: int | None) -> tuple[Choice, Progress]:
    tokens = sample_tokens(logits, rules.keys, before.steps, rules.sampling)
    choice = Choice(tokens, None, None, None)
    if report is not None:
        logprobs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
        choice = choice._replace(logprobs=jnp.take_along_axis(logprobs, tokens[:, None], axis=1)[:, 0])
        if report:
            best, ids = lax.top_k(logprobs, report)
            choice = choice._replace(top_tokens=ids.astype(jnp.int32), top_logprobs=best)
    return choice, Progress(before.steps + 1, tokens, before.is_done | jnp.isin(tokens, rules.eos))
